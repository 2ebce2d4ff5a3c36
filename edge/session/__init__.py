"""One client's session on an edge, whatever the transport: opening, resuming, its way into the log."""
