#!lua flags=allow-oom
-- Purpose: offer a quarantined run to workers again, its suspicion count reset, and state it.
-- KEYS: 1 quarantined (stream), 2 checkpoint (hash), 3 transcript (stream), 4 sessions (stream), 5 entries (hash),
--       6 sessions wake-up (channel), 7 index (sorted set), 8 changes (stream), 9 changes wake-up (channel),
--       10 session (hash), 11 audio (stream), 12 upload guard (hash), 13 upload (stream), 14 upload head (string)
-- ARGV: 1 entry in the list, 2 member, 3 fact (JSON), 4 TTL (s), 5 TTL of its queue (s; "0" for no bound)
-- Returns: code: OK; LOST (not in the list); GONE, SEALED or EXISTS (no such run, over, offered already: removed from the list)
-- Atomic: all of it
-- Retry: LOST, and nothing changes
--- @include "codes"
--- @include "clock"
--- @include "claim"
--- @include "ids"
--- @include "quarantine"

local code, last_id = unlist(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], ARGV[2])
if code ~= CODE.OK then
  return code
end
redis.call('HDEL', KEYS[2], 'aside', 'suspicion', 'suspected')
redis.call('XADD', KEYS[3], 'NOMKSTREAM', control_after(last_id), 'fact', ARGV[3])
redis.call('ZADD', KEYS[7], now_ms(), ARGV[2])
redis.call('XADD', KEYS[8], '*', 'run', ARGV[2])
offer(KEYS[4], KEYS[5], KEYS[6], ARGV[2])
if ARGV[5] ~= '0' then
  redis.pcall('XGROUP', 'CREATE', KEYS[4], GROUP, '0')
  expire_keys(ARGV[5], KEYS[4], KEYS[5])
end
expire_keys(ARGV[4], KEYS[2], KEYS[3], KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14])
redis.call('SPUBLISH', KEYS[9], ARGV[2])
return CODE.OK
