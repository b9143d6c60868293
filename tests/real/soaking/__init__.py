"""The parts of a soak: work that goes on, kills, hostile peers, and the figures of all of it."""
