"""Audio by plain HTTP: recordings, and sessions fed by requests."""
