#!lua flags=allow-oom
-- Purpose: give a session, whose client closed its connection, a deadline by which it ends unless it is resumed.
-- KEYS: 1 session (hash)
-- ARGV: 1 epoch of that connection, 2 grace from now (ms)
-- Returns: code: OK, GONE, SEALED, or SUPERSEDED (it was resumed)
-- Atomic: all of it
-- Retry: the grace begins again
--- @include "codes"
--- @include "clock"
--- @include "guard"

local guard = redis.call('HGET', KEYS[1], 'guard')
if not guard then
  return CODE.GONE
end
local epoch, head = parts(guard)
if epoch ~= ARGV[1] then
  return CODE.SUPERSEDED
end
if head == END then
  return CODE.SEALED
end
-- Under this epoch: a resume raises it, and so makes the deadline void.
redis.call('HSET', KEYS[1], 'closes', epoch .. ' ' .. string.format('%.0f', tonumber(now_ms()) + tonumber(ARGV[2])))
return CODE.OK
