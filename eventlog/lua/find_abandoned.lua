#!lua flags=allow-oom
-- Purpose: see whether any claim wasn't renewed for a lease, and what the time is; what is taken over comes after this.
-- KEYS: 1 sessions (stream)
-- ARGV: 1 lease (ms)
-- Returns: {now (ms, this server's clock), 1 if there is such a claim or 0}
-- Atomic: all of it
-- Retry: harmless, it writes nothing
--- @include "claim"
--- @include "clock"

local idle = redis.pcall('XPENDING', KEYS[1], GROUP, 'IDLE', ARGV[1], '-', '+', 1)
return {now_ms(), (not idle.err and #idle > 0) and 1 or 0}
