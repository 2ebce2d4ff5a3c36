#!lua flags=no-writes,allow-oom
-- Purpose: list a page of a partition's runs.
-- KEYS: 1 index (sorted set)
-- ARGV: 1 scan cursor, 2 how many to read
-- Returns: {next cursor ("0" at the end), list of members}
-- Atomic: each call; a run that exists from the first call to the last is listed at least once
-- Retry: harmless
local scanned = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local members = {}
for i = 1, #scanned[2], 2 do
  members[#members + 1] = scanned[2][i]
end
return {scanned[1], members}
