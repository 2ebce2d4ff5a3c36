#!lua flags=allow-oom
-- Purpose: stop offering a run that keeps killing workers, and keep its reason where it can be listed.
-- KEYS: 1 sessions (stream), 2 entries (hash), 3 set-aside (stream)
-- ARGV: 1 entry, 2 consumer, 3 deliveries, 4 member, 5 reason, 6 most to keep
-- Returns: code: OK or LOST
-- Atomic: all of it
-- Retry: LOST, and nothing changes
--- @include "codes"
--- @include "claim"

if not holds(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then
  return CODE.LOST
end
forget(KEYS[1], KEYS[2], ARGV[1], ARGV[4])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 'run', ARGV[4], 'reason', ARGV[5], 'consumer', ARGV[2])
return CODE.OK
