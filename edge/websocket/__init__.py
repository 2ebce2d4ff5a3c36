"""The WebSocket: connections, their way into the log and back."""
