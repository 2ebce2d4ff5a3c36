"""One client's session on an edge, over any transport: opening, resuming, appending to the log."""
