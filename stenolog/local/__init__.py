"""Everything on one machine: the embedded server, the supervisor, the demo."""
