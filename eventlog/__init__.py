"""What happened: event types, keys, the log's contract, claims and the scripts that keep them true."""
