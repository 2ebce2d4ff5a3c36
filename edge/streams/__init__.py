"""What is heard of sessions, and server-sent events of it."""
