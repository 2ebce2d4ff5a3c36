#!lua flags=no-writes,allow-oom
-- Purpose: read the highest ranked runs of many lists, and their number between two ranks.
-- KEYS: per list: runs (sorted set)
-- ARGV: 1 highest score, 2 lowest score, 3 max runs of each list (0 to count them only)
-- Returns: per list: {member, score, member, score, …}, or {count}
-- Atomic: each list
-- Retry: harmless
local found = {}
for i = 1, #KEYS do
  if ARGV[3] == '0' then
    found[i] = {redis.call('ZCOUNT', KEYS[i], ARGV[2], ARGV[1])}
  else
    found[i] = redis.call('ZREVRANGEBYSCORE', KEYS[i], ARGV[1], ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
  end
end
return found
