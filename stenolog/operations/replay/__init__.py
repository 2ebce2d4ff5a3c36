"""Replays from the outside: which sessions, with which settings, by whose hands, and how far they are."""
