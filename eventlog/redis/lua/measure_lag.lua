#!lua flags=allow-oom
-- Purpose: measure how long entries have waited: runs for a worker, notices for each projection.
-- KEYS: 1 sessions (stream), 2 changes (stream)
-- ARGV: none
-- Returns: {oldest unclaimed run (ms), projection, its oldest unacked notice (ms), projection, …}
-- Atomic: all of it
-- Retry: harmless, it writes nothing
--- @include "clock"
--- @include "claim"

local now = tonumber(now_ms())

local function age_ms(entry_id)
  return math.max(0, now - tonumber(string.match(entry_id, '^%d+')))
end

local function groups(stream)
  local found = {}
  local infos = redis.pcall('XINFO', 'GROUPS', stream)
  for _, info in ipairs(infos.err and {} or infos) do
    local group = {}
    for i = 1, #info, 2 do
      group[info[i]] = info[i + 1]
    end
    found[#found + 1] = group
  end
  return found
end

local function undelivered_ms(stream, group)
  local next = redis.call('XRANGE', stream, '(' .. group['last-delivered-id'], '+', 'COUNT', 1)
  return next[1] and age_ms(next[1][1]) or 0
end

local unclaimed = 0
for _, group in ipairs(groups(KEYS[1])) do
  if group.name == GROUP then
    unclaimed = undelivered_ms(KEYS[1], group)
  end
end
local lags = {unclaimed}
for _, group in ipairs(groups(KEYS[2])) do
  local waited = undelivered_ms(KEYS[2], group)
  if group.pending > 0 then
    waited = math.max(waited, age_ms(redis.call('XPENDING', KEYS[2], group.name)[2]))
  end
  lags[#lags + 1] = group.name
  lags[#lags + 1] = waited
end
return lags
