"""The event log: event types, keys, the log's contract, its Redis implementation, claims, and the Lua scripts."""
