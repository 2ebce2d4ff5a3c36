#!lua flags=allow-oom
-- Purpose: reset the idle time of claims, each only if its token still holds.
-- KEYS: per claim: sessions (stream)
-- ARGV: per claim: entry, consumer, deliveries
-- Returns: list of the claims' numbers (from 1) that are lost
-- Atomic: per claim
-- Retry: harmless
--- @include "claim"

local lost = {}
for i = 1, #KEYS do
  local entry, consumer = ARGV[3 * i - 2], ARGV[3 * i - 1]
  if holds(KEYS[i], entry, consumer, ARGV[3 * i]) then
    redis.call('XCLAIM', KEYS[i], GROUP, consumer, 0, entry, 'JUSTID')
  else
    lost[#lost + 1] = i
  end
end
return lost
