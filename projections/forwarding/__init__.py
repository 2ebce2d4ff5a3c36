"""Forwards: events of the log to sinks outside Redis, at least once, in order per session."""
