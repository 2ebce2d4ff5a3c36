#!lua flags=allow-oom
-- Purpose: make the group of workers on a sessions stream, from its first entry on, if it does not exist yet.
-- KEYS: 1 sessions (stream), 2 entries (hash)
-- ARGV: 1 time to live of both from now on (s; "0" for no bound)
-- Returns: 1 if it was made, 0 if it existed
-- Atomic: all of it; a script, for a full server refuses the bare command even where the group exists
-- Retry: harmless
--- @include "claim"

local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], GROUP, '0', 'MKSTREAM')
if ARGV[1] ~= '0' then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
  redis.call('EXPIRE', KEYS[2], ARGV[1])
end
if not made.err then
  return 1
end
if string.sub(made.err, 1, 9) == 'BUSYGROUP' then
  return 0
end
return made
