"""The keeper: parent of every task.  Small, single-threaded, no network, never blocks."""
