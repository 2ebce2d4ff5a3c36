#!lua flags=allow-oom
-- Purpose: record activity (keepalive) of sessions, so that they don't count as idle.
-- KEYS: per session: session (hash)
-- ARGV: per session: epoch
-- Returns: how many were touched
-- Atomic: per session
-- Retry: harmless
--- @include "clock"
--- @include "guard"

local touched = 0
local now = now_ms()
for i = 1, #KEYS do
  local guard = redis.call('HGET', KEYS[i], 'guard')
  if guard and parts(guard) == ARGV[i] then
    redis.call('HSET', KEYS[i], 'seen_ms', now)
    touched = touched + 1
  end
end
return touched
