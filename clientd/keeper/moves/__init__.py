"""This node's part in moves: what is promised, on record, and done."""
