#!lua flags=allow-oom
-- Purpose: take a projection's notices: new ones, and if asked its consumer's unacked ones and those of dead consumers.
-- KEYS: 1 changes (stream), 2 walks (hash)
-- ARGV: 1 projection, 2 consumer, 3 most notices of each kind, 4 take over those idle for longer (ms; "" for none),
--       5 the consumer's own unacked ones too (0 or 1)
-- Returns: {list of id, member, id, member, …; walk token or ""}; the member is "" where the notice was trimmed
-- Atomic: all of it; a group that isn't there is made, together with the order to walk, for nobody knows what it missed
-- Retry: new notices of a lost answer are the consumer's own unacked ones
--- @include "clock"

local changes, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local found = {}

local function add(entries)
  for _, entry in ipairs(entries) do
    found[#found + 1] = entry[1]
    found[#found + 1] = entry[2] and entry[2][2] or ''
  end
end

local function read(from)
  return redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', ARGV[3], 'STREAMS', changes, from)
end

local new = read('>')
if new and new.err then
  if string.sub(new.err, 1, 7) ~= 'NOGROUP' then
    return new
  end
  redis.call('HSET', KEYS[2], group, now_ms())
  redis.call('XGROUP', 'CREATE', changes, group, '0', 'MKSTREAM')
  new = read('>')
end
if ARGV[5] == '1' then
  -- What was just delivered is among them.
  local own = read('0')
  add(own and own[1][2] or {})
elseif new then
  add(new[1][2])
end
if ARGV[4] ~= '' then
  add(redis.call('XAUTOCLAIM', changes, group, consumer, ARGV[4], '0-0', 'COUNT', ARGV[3])[2])
end
return {found, redis.call('HGET', KEYS[2], group) or ''}
