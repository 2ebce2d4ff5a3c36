#!lua
-- Purpose: append a container's description as the second entry of the audio, and in every copy of the session's start.
-- KEYS: 1 session (hash), 2 audio (stream), 3 upload guard (hash)
-- ARGV: 1 epoch, 2 described event (JSON), 3 start event with the true number of channels (JSON)
-- Returns: {code, epoch, head}: OK, GONE, SUPERSEDED, SEALED, or MISPLACED (the second entry exists already)
-- Atomic: all of it or nothing; refused as a whole when memory is full
-- Retry: MISPLACED with a head at or past 0-2, which means done
--- @include "codes"
--- @include "clock"
--- @include "guard"

local guard = redis.call('HGET', KEYS[1], 'guard')
if not guard then
  return {CODE.GONE, 0, '0-0'}
end
local epoch, head = parts(guard)
if epoch ~= ARGV[1] then
  return {CODE.SUPERSEDED, tonumber(epoch), head}
end
if head ~= '0-1' then
  return {head == END and CODE.SEALED or CODE.MISPLACED, tonumber(epoch), head}
end
local now = now_ms()
local id = redis.pcall('XADD', KEYS[2], 'NOMKSTREAM', '0-2', 'event', ARGV[2], 'at_ms', now)
if not id or id.err then
  return {CODE.GONE, tonumber(epoch), head}
end
redis.call('HSET', KEYS[1], 'guard', epoch .. ' 0-2', 'start', ARGV[3], 'seen_ms', now)
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('HSET', KEYS[3], 'start', ARGV[3])
end
return {CODE.OK, tonumber(epoch), '0-2'}
