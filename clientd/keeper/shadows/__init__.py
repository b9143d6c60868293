"""What stays at home of a task that left: a process that stands for it."""
