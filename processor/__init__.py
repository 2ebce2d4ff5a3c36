"""Audio in, transcript events out."""
