#!lua flags=allow-oom
-- Purpose: offer again every unfinished run whose entry is missing (an operator's mistake, a failover's loss).
-- KEYS: 1 sessions (stream), 2 entries (hash), 3 sessions wake-up (channel)
-- ARGV: 1 scan cursor, 2 how many to check
-- Returns: {next cursor, list of the checked members, how many were offered again}
-- Atomic: all of it
-- Retry: harmless
--- @include "claim"

local scanned = redis.call('HSCAN', KEYS[2], ARGV[1], 'COUNT', ARGV[2])
local members, offered = {}, 0
for i = 1, #scanned[2], 2 do
  local member, entry = scanned[2][i], scanned[2][i + 1]
  members[#members + 1] = member
  if #redis.call('XRANGE', KEYS[1], entry, entry) == 0 then
    offer(KEYS[1], KEYS[2], KEYS[3], member)
    offered = offered + 1
  end
end
return {scanned[1], members, offered}
