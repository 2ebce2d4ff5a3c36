#!lua flags=allow-oom
-- Purpose: offer a claimed run again as a fresh entry, so that another worker gets it at once and without a suspicion.
-- KEYS: 1 sessions (stream), 2 entries (hash), 3 sessions wake-up (channel), 4 checkpoint (hash)
-- ARGV: 1 entry, 2 consumer, 3 deliveries, 4 member, 5 whether the suspicion count is reset (1 or 0)
-- Returns: code: OK or LOST
-- Atomic: all of it
-- Retry: LOST, and nothing changes
--- @include "codes"
--- @include "claim"

if not holds(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then
  return CODE.LOST
end
if ARGV[5] == '1' then
  redis.call('HDEL', KEYS[4], 'suspicion', 'suspected')
end
remove_entry(KEYS[1], KEYS[2], ARGV[1], ARGV[4])
offer(KEYS[1], KEYS[2], KEYS[3], ARGV[4])
return CODE.OK
