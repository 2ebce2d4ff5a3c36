#!lua flags=no-writes,allow-oom
-- Purpose: read the state of many runs: their views, and for open ones the state that only the log has.
-- KEYS: per run: view (hash), session (hash), checkpoint (hash)
-- ARGV: none
-- Returns: {now (ms), then per run: {view as field/value list, guard, cursor}, both empty where they do not exist}
-- Atomic: each run's three belong together
-- Retry: harmless
--- @include "clock"

local found = {now_ms()}
for i = 1, #KEYS, 3 do
  found[#found + 1] = {
    redis.call('HGETALL', KEYS[i]),
    redis.call('HGET', KEYS[i + 1], 'guard') or '',
    redis.call('HGET', KEYS[i + 2], 'cursor') or '',
  }
end
return found
