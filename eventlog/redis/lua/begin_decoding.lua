#!lua flags=allow-oom
-- Purpose: make the holder of a claim the only decoder: raise the epoch of the session's audio.
-- KEYS: 1 sessions (stream), 2 session (hash), 3 upload guard (hash), 4 upload head (string)
-- ARGV: 1 entry, 2 consumer, 3 deliveries, 4 credit to begin with (bytes)
-- Returns: {code, epoch, head, start event, restart record, container's first bytes}: OK, LOST, GONE or SEALED
-- Atomic: all of it
-- Retry: raises the epoch once more; the caller uses the last answer
--- @include "codes"
--- @include "claim"
--- @include "guard"

if not holds(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then
  return {CODE.LOST, 0, '0-0', ''}
end
local state = redis.call('HMGET', KEYS[2], 'guard', 'start')
if not state[1] or not state[2] then
  return {CODE.GONE, 0, '0-0', ''}
end
local older, head = parts(state[1])
if head == END then
  return {CODE.SEALED, tonumber(older), head, state[2]}
end
local epoch = string.format('%.0f', tonumber(older) + 1)
redis.call('HSET', KEYS[2], 'guard', epoch .. ' ' .. head)
local restart = ''
if redis.call('EXISTS', KEYS[3]) == 1 then
  if redis.call('HEXISTS', KEYS[3], 'credit_bytes') == 0 then
    redis.call('HSET', KEYS[3], 'credit_bytes', ARGV[4])
  end
  restart = redis.call('HGET', KEYS[3], 'restart') or ''
end
return {CODE.OK, tonumber(epoch), head, state[2], restart, restart ~= '' and redis.call('GET', KEYS[4]) or ''}
