#!lua flags=allow-oom
-- Purpose: end a quarantined run permanently, as failed.
-- KEYS: 1 quarantined (stream), 2 checkpoint (hash), 3 transcript (stream), 4 sessions (stream), 5 entries (hash),
--       6 index (sorted set), 7 changes (stream), 8 changes wake-up (channel)
-- ARGV: 1 entry in the list, 2 member, 3 fact (JSON), 4 TTL (s)
-- Returns: code: OK; LOST (not in the list); GONE, SEALED or EXISTS (no such run, over, offered already: removed from the list)
-- Atomic: all of it
-- Retry: LOST, and nothing changes
--- @include "codes"
--- @include "clock"
--- @include "quarantine"

local code = unlist(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], ARGV[2])
if code ~= CODE.OK then
  return code
end
redis.call('HDEL', KEYS[2], 'aside')
redis.call('HSET', KEYS[2], 'done', 'set aside')
redis.call('XADD', KEYS[3], 'NOMKSTREAM', END, 'fact', ARGV[3])
redis.call('ZADD', KEYS[6], now_ms(), ARGV[2])
redis.call('XADD', KEYS[7], '*', 'run', ARGV[2])
expire_keys(ARGV[4], KEYS[2], KEYS[3])
redis.call('SPUBLISH', KEYS[8], ARGV[2])
return CODE.OK
