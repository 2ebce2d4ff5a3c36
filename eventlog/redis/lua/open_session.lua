#!lua
-- Purpose: create a session: guard state, first audio event, first fact, claimable entry, notice.
-- KEYS: 1 session (hash), 2 audio (stream), 3 transcript (stream), 4 sessions (stream), 5 entries (hash),
--       6 index (sorted set), 7 changes (stream), 8 sessions wake-up (channel), 9 changes wake-up (channel),
--       10 erased (sorted set), 11 upload guard (hash), 12 upload (stream)
-- ARGV: 1 token hash, 2 start event (JSON), 3 opened fact (JSON), 4 member "<session> <run>", 5 TTL (s), 6 session id,
--       7 tenant, 8 owner, 9 token's time to live (ms), 10 has an upload (0 or 1)
-- Returns: {code, epoch, head}: OK, EXISTS, or GONE (the session was erased)
-- Atomic: all of it or nothing; refused as a whole when memory is full
-- Retry: EXISTS, and nothing changes
--- @include "codes"
--- @include "clock"
--- @include "claim"

if redis.call('EXISTS', KEYS[1]) == 1 then
  return {CODE.EXISTS, 0, '0-0'}
end
if redis.call('ZSCORE', KEYS[10], ARGV[6]) then
  return {CODE.GONE, 0, '0-0'}
end
local now = now_ms()
local until_ms = string.format('%.0f', tonumber(now) + tonumber(ARGV[9]))

local function begin_stream(guard, stream)
  redis.call('HSET', guard, 'guard', '1 0-1', 'seen_ms', now, 'token', ARGV[1], 'token_until_ms', until_ms,
    'start', ARGV[2], 'tenant', ARGV[7], 'owner', ARGV[8])
  redis.call('XADD', stream, '0-1', 'event', ARGV[2], 'at_ms', now)
  redis.call('EXPIRE', guard, ARGV[5])
  redis.call('EXPIRE', stream, ARGV[5])
end

begin_stream(KEYS[1], KEYS[2])
if ARGV[10] == '1' then
  begin_stream(KEYS[11], KEYS[12])
end
redis.call('XADD', KEYS[3], '0-1', 'fact', ARGV[3])
redis.call('EXPIRE', KEYS[3], ARGV[5])
redis.call('ZADD', KEYS[6], now, ARGV[4])
redis.call('XADD', KEYS[7], '*', 'run', ARGV[4])
offer(KEYS[4], KEYS[5], KEYS[8], ARGV[4])
redis.call('SPUBLISH', KEYS[9], ARGV[4])
return {CODE.OK, 1, '0-1'}
