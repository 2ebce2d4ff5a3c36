#!lua
-- Purpose: let a new connection go on with a session: raise the epoch and tell the older connection.
-- KEYS: 1 session (hash), 2 feed channel (channel)
-- ARGV: 1 token hash, 2 member "<session> <run>"
-- Returns: {code, epoch, head, start event}: OK, GONE, FORBIDDEN or SEALED
-- Atomic: all of it
-- Retry: raises the epoch once more; the caller uses the last answer
--- @include "codes"
--- @include "clock"

local state = redis.call('HMGET', KEYS[1], 'epoch', 'head', 'token', 'start')
if not state[1] then
  return {CODE.GONE, 0, '0-0', ''}
end
if state[3] ~= ARGV[1] then
  return {CODE.FORBIDDEN, 0, '0-0', ''}
end
if state[2] == END then
  return {CODE.SEALED, 0, state[2], ''}
end
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'seen_ms', now_ms())
redis.call('SPUBLISH', KEYS[2], cjson.encode({'s', ARGV[2], '', '', string.format('%.0f', epoch)}))
return {CODE.OK, epoch, state[2], state[4]}
