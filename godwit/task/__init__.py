"""What a task is: its record, its life cycle, its name."""
