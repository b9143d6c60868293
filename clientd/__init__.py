"""clientd: the daemon of a node, in two processes (keeper and agent)."""
