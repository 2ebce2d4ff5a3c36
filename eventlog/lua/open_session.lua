#!lua
-- Purpose: create a session: guard state, first audio event, first fact, claimable entry, notice.
-- KEYS: 1 session (hash), 2 audio (stream), 3 transcript (stream), 4 sessions (stream), 5 entries (hash),
--       6 index (sorted set), 7 changes (stream), 8 sessions bell (channel), 9 changes bell (channel)
-- ARGV: 1 token hash, 2 start event (JSON), 3 opened fact (JSON), 4 member "<session> <run>", 5 TTL (s)
-- Returns: {code, epoch, head}: OK, or EXISTS
-- Atomic: all of it or nothing; refused as a whole when memory is full
-- Retry: EXISTS, and nothing changes
--- @include "codes"
--- @include "clock"
--- @include "claim"

if redis.call('EXISTS', KEYS[1]) == 1 then
  return {CODE.EXISTS, 0, '0-0'}
end
local now = now_ms()
redis.call('HSET', KEYS[1], 'guard', '1 0-1', 'seen_ms', now, 'token', ARGV[1], 'start', ARGV[2])
redis.call('XADD', KEYS[2], '0-1', 'event', ARGV[2], 'at_ms', now)
redis.call('XADD', KEYS[3], '0-1', 'fact', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('EXPIRE', KEYS[2], ARGV[5])
redis.call('EXPIRE', KEYS[3], ARGV[5])
redis.call('ZADD', KEYS[6], now, ARGV[4])
redis.call('XADD', KEYS[7], '*', 'run', ARGV[4])
offer(KEYS[4], KEYS[5], KEYS[8], ARGV[4])
redis.call('SPUBLISH', KEYS[9], ARGV[4])
return {CODE.OK, 1, '0-1'}
