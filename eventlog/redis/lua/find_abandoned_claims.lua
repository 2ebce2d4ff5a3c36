#!lua flags=allow-oom
-- Purpose: read the idle time of the longest idle claim, and the clock; a takeover follows this look.
-- KEYS: 1 sessions (stream)
-- ARGV: 1 lease (ms)
-- Returns: {now (ms, this server's clock), idle time (ms) of the longest idle claim, 0 if none is idle for half a lease}
-- Atomic: all of it
-- Retry: harmless, it writes nothing
--- @include "claim"
--- @include "clock"

-- Live workers renew each third of a lease, so claims idle for half of one are few, or a dead worker's.
local idle = redis.pcall('XPENDING', KEYS[1], GROUP, 'IDLE', math.floor(tonumber(ARGV[1]) / 2), '-', '+', 100)
local longest = 0
if not idle.err then
  for _, pending in ipairs(idle) do
    longest = math.max(longest, pending[3])
  end
end
return {now_ms(), longest}
