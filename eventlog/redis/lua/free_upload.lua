#!lua flags=allow-oom
-- Purpose: close an upload whose session has ended, and free its bytes.
-- KEYS: 1 upload guard (hash), 2 upload (stream), 3 upload head (string)
-- ARGV: none
-- Returns: 1 if bytes were freed, else 0
-- Atomic: all of it, so that no append follows the free
-- Retry: 0, and nothing changes
--- @include "codes"
--- @include "guard"

local guard = redis.call('HGET', KEYS[1], 'guard')
if guard then
  redis.call('HSET', KEYS[1], 'guard', parts(guard) .. ' ' .. END)
end
redis.call('UNLINK', KEYS[3])
return redis.call('UNLINK', KEYS[2])
