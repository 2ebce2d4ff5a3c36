#!lua flags=allow-oom
-- Purpose: read where a claimed run stands, and raise its suspicion count if its last holder died.
-- KEYS: 1 sessions (stream), 2 entries (hash), 3 checkpoint (hash), 4 session (hash), 5 transcript (stream)
-- ARGV: 1 entry, 2 consumer, 3 deliveries, 4 member, 5 TTL (s)
-- Returns: {code, start event, checkpoint as field/value list, last fact's id, fact 0-2 or ""}: OK; LOST; GONE or
--          SEALED (entry removed)
-- Atomic: all of it
-- Retry: the suspicion is counted once per token
--- @include "codes"
--- @include "claim"

if not holds(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then
  return {CODE.LOST, '', {}, '0-0', ''}
end
-- A replay has a start of its own, and may outlive its session.
local start = redis.call('HGET', KEYS[3], 'start') or redis.call('HGET', KEYS[4], 'start')
if not start or redis.call('EXISTS', KEYS[5]) == 0 then
  remove_entry(KEYS[1], KEYS[2], ARGV[1], ARGV[4])
  return {CODE.GONE, '', {}, '0-0', ''}
end
if redis.call('HEXISTS', KEYS[3], 'done') == 1 then
  remove_entry(KEYS[1], KEYS[2], ARGV[1], ARGV[4])
  return {CODE.SEALED, '', {}, '0-0', ''}
end
local token = ARGV[1] .. ' ' .. ARGV[3]
if ARGV[3] ~= '1' and redis.call('HGET', KEYS[3], 'suspected') ~= token then
  redis.call('HINCRBY', KEYS[3], 'suspicion', 1)
  redis.call('HSET', KEYS[3], 'suspected', token)
  redis.call('EXPIRE', KEYS[3], ARGV[5])
end
local last = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)
local second = redis.call('XRANGE', KEYS[5], '0-2', '0-2')
return {CODE.OK, start, redis.call('HGETALL', KEYS[3]), last[1][1], second[1] and second[1][2][2] or ''}
