"""Moves of tasks between nodes: the owner's record, the verdicts, the flight report."""
