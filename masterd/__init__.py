"""masterd: the daemon that knows every node and task, its shell and its commands."""
