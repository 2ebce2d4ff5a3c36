"""The log on Redis: one server or a cluster, its Lua scripts, durability, memory and wake-ups."""
