#!lua flags=allow-oom
-- Purpose: take a projection's notices: new ones, and if asked its consumer's unacked ones and those of dead consumers.
-- KEYS: per partition: changes (stream), walks (hash)
-- ARGV: 1 projection, 2 consumer, 3 max notices of each kind, 4 take over those idle for longer (ms; "" for none),
--       then per partition: the consumer's own unacked ones too (0 or 1)
-- Returns: per partition {list of id, member, id, member, …; walk token or ""}, or an error where `changes` is none of ours;
--          the member is "" where the notice was trimmed
-- Atomic: all of it; a missing group is made, together with the order to walk, for the notices that it missed are unknown
-- Retry: new notices of a lost answer are the consumer's own unacked ones
--- @include "clock"

local group, consumer = ARGV[1], ARGV[2]
local OWN = 5

local function add(found, entries)
  for _, entry in ipairs(entries) do
    found[#found + 1] = entry[1]
    found[#found + 1] = entry[2] and entry[2][2] or ''
  end
end

local function read(changes, from)
  return redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', ARGV[3], 'STREAMS', changes, from)
end

local function news(changes, walks, own_too)
  local found = {}
  local new = read(changes, '>')
  if new and new.err then
    if string.sub(new.err, 1, 7) ~= 'NOGROUP' then
      return new
    end
    redis.call('HSET', walks, group, now_ms())
    redis.call('XGROUP', 'CREATE', changes, group, '0', 'MKSTREAM')
    new = read(changes, '>')
  end
  if own_too then
    -- The notices just delivered are among them.
    local own = read(changes, '0')
    add(found, own and own[1][2] or {})
  elseif new then
    add(found, new[1][2])
  end
  if ARGV[4] ~= '' then
    add(found, redis.call('XAUTOCLAIM', changes, group, consumer, ARGV[4], '0-0', 'COUNT', ARGV[3])[2])
  end
  return {found, redis.call('HGET', walks, group) or ''}
end

local answers = {}
for i = 1, #KEYS, 2 do
  answers[#answers + 1] = news(KEYS[i], KEYS[i + 1], ARGV[OWN + (i - 1) / 2] == '1')
end
return answers
