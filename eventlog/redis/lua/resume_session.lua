#!lua
-- Purpose: let a new connection continue a session: raise the epoch and notify the older connection.
-- KEYS: 1 session (hash), 2 feed channel (channel)
-- ARGV: 1 token hash, 2 member "<session> <run>", 3 token's time to live from now (ms)
-- Returns: {code, epoch, head, start event}: OK, GONE, FORBIDDEN (another token, or an expired one) or SEALED
-- Atomic: all of it
-- Retry: raises the epoch once more; the caller uses the last answer
--- @include "codes"
--- @include "clock"
--- @include "guard"

local state = redis.call('HMGET', KEYS[1], 'guard', 'token', 'start', 'token_until_ms')
if not state[1] then
  return {CODE.GONE, 0, '0-0', ''}
end
local now = now_ms()
-- Sessions of an older version have no such bound; they live no longer than their TTL.
if state[2] ~= ARGV[1] or tonumber(now) > tonumber(state[4] or now) then
  return {CODE.FORBIDDEN, 0, '0-0', ''}
end
local older, head = parts(state[1])
if head == END then
  return {CODE.SEALED, 0, head, ''}
end
local epoch = string.format('%.0f', tonumber(older) + 1)
redis.call('HSET', KEYS[1], 'guard', epoch .. ' ' .. head, 'seen_ms', now,
  'token_until_ms', string.format('%.0f', tonumber(now) + tonumber(ARGV[3])))
redis.call('SPUBLISH', KEYS[2], cjson.encode({'s', ARGV[2], '', '', epoch}))
return {CODE.OK, tonumber(epoch), head, state[3]}
