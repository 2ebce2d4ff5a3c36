#!lua flags=allow-oom
-- Purpose: stop offering a run that can't be processed or keeps killing workers; state it, and list it with its reason.
-- KEYS: 1 sessions (stream), 2 entries (hash), 3 quarantined (stream), 4 checkpoint (hash), 5 transcript (stream),
--       6 changes (stream), 7 changes wake-up (channel), 8 index (sorted set), 9 session (hash), 10 audio (stream),
--       11 upload guard (hash), 12 upload (stream), 13 upload head (string)
-- ARGV: 1 entry, 2 consumer, 3 deliveries, 4 member, 5 reason, 6 max entries of the list, 7 queue, 8 fact (JSON), 9 TTL (s)
-- Returns: code: OK, LOST; GONE or SEALED (no such run, or it is over: its entry is removed)
-- Atomic: all of it
-- Retry: LOST, and nothing changes
--- @include "codes"
--- @include "clock"
--- @include "claim"
--- @include "ids"
--- @include "quarantine"

if not holds(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then
  return CODE.LOST
end
local last = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)
remove_entry(KEYS[1], KEYS[2], ARGV[1], ARGV[4])
if not last[1] then
  return CODE.GONE
end
if last[1][1] == END or redis.call('HEXISTS', KEYS[4], 'done') == 1 then
  return CODE.SEALED
end
local now, ttl_s = now_ms(), ARGV[9]
local times = redis.call('HINCRBY', KEYS[4], 'asides', 1)
local listed_as = redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 'run', ARGV[4], 'reason', ARGV[5],
  'consumer', ARGV[2], 'queue', ARGV[7], 'times', times)
redis.call('HSET', KEYS[4], 'aside', listed_as)
redis.call('XADD', KEYS[5], 'NOMKSTREAM', control_after(last[1][1]), 'fact', ARGV[8])
redis.call('ZADD', KEYS[8], now, ARGV[4])
redis.call('XADD', KEYS[6], '*', 'run', ARGV[4])
redis.call('SPUBLISH', KEYS[7], ARGV[4])
-- No worker refreshes its keys from now on: they and its list entry expire at the same time.
redis.call('XTRIM', KEYS[3], 'MINID', string.format('%.0f', tonumber(now) - tonumber(ttl_s) * 1000))
expire_keys(ttl_s, KEYS[3], KEYS[4], KEYS[5], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13])
return CODE.OK
