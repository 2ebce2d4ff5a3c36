"""Replays from the outside: which sessions, with which settings, by which workers, and their progress."""
