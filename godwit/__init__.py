"""godwit: run programs on many Linux machines from one shell, and move them while they run."""

__version__ = "0.1.0"
