"""Measurements of the whole path and of its parts, one JSON line each."""
