"""Clients of a running edge: a WebSocket session, recorded files by HTTP."""
