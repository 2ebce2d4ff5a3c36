"""The settings by group, each built on the one before it, so that together they are one flat list."""
