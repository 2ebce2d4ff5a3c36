#!lua flags=allow-oom
-- Purpose: delete a redriven letter that was sent, or make it a dead letter again, the latter only while its run has facts.
-- KEYS: 1 redriven (stream), 2 dead letters (stream), 3 transcript (stream)
-- ARGV: 1 entry id, 2 reason ("" if it was sent), 3 attempts, 4 now (Unix ms), 5 consumer, 6 max dead letters, 7 TTL (s)
-- Returns: 1 if it existed, else 0
-- Atomic: all of it
-- Retry: 0, and nothing changes
local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then
  return 0
end
if ARGV[2] ~= '' and redis.call('EXISTS', KEYS[3]) == 1 then
  local changed = {reason = ARGV[2], attempts = ARGV[3], at_ms = ARGV[4], consumer = ARGV[5]}
  local fields = letter[2]
  for i = 1, #fields, 2 do
    fields[i + 1] = changed[fields[i]] or fields[i + 1]
  end
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], '*', unpack(fields))
  redis.call('EXPIRE', KEYS[2], ARGV[7])
end
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
