"""What tiles cost: exactly, over time, and at least."""
