#!lua flags=allow-oom
-- Purpose: take claims whose holder hasn't renewed them for a lease.
-- KEYS: 1 sessions (stream)
-- ARGV: 1 consumer, 2 lease (ms), 3 max claims to take, 4 not after (ms, this server's clock)
-- Returns: list of {entry, member, deliveries}; the consumer's own come with their present count, renewed
-- Atomic: all of it, so two workers can't take the same
-- Retry: claims taken before come back as the consumer's own, once it is idle for a lease
--- @include "claim"
--- @include "clock"

-- A call that lay in a stalled server's queue runs before the renewals that lay behind it, when every claim looks idle.
if tonumber(now_ms()) > tonumber(ARGV[4]) then
  return {}
end
-- XPENDING + XCLAIM instead of XAUTOCLAIM: that one would raise the count of entries the caller itself still runs.
local taken = {}
local start = '-'
while #taken < tonumber(ARGV[3]) do
  local idle = redis.pcall('XPENDING', KEYS[1], GROUP, 'IDLE', ARGV[2], start, '+', 100)
  if idle.err then
    break  -- no group: nothing was ever claimed here
  end
  for _, pending in ipairs(idle) do
    if #taken < tonumber(ARGV[3]) then
      local entry, consumer, deliveries = pending[1], pending[2], pending[4]
      local got
      if consumer == ARGV[1] then
        got = redis.call('XRANGE', KEYS[1], entry, entry)
        redis.call('XCLAIM', KEYS[1], GROUP, consumer, 0, entry, 'JUSTID')  -- renewed, or every look would find it
      else
        got = redis.call('XCLAIM', KEYS[1], GROUP, ARGV[1], ARGV[2], entry)
        deliveries = deliveries + 1
      end
      if #got == 1 then
        taken[#taken + 1] = {entry, got[1][2][2], deliveries}
      end
    end
  end
  if #idle < 100 then
    break
  end
  start = '(' .. idle[100][1]
end
return taken
