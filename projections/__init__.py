"""Projections: facts in, read models out; each pulls from its own position and can be rebuilt from the log."""
