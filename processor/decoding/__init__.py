"""Containers to PCM: a child process that decodes, and the pumps that feed it from uploads into the audio log."""
