#!lua
-- Purpose: start the rebuild of a run's read model: delete an earlier try's copy, and set its position to the beginning.
-- KEYS: 1 transcript (stream), 2 position of the copy (string), then the keys of the copy, of any type
-- ARGV: 1 TTL (s)
-- Returns: OK, or GONE (no facts any more)
-- Atomic: all of it; refused as a whole when memory is full, since a copy takes as much again
-- Retry: starts again from the beginning
--- @include "codes"

for i = 2, #KEYS do
  redis.call('UNLINK', KEYS[i])
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  return CODE.GONE
end
redis.call('SET', KEYS[2], '0-0', 'EX', ARGV[1])
return CODE.OK
