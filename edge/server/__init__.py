"""Uvicorn as the edge needs it."""
