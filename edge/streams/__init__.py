"""The reader of sessions' feeds, and server-sent events made of them."""
