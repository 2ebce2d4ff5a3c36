#!lua flags=allow-oom
-- Purpose: take utterances to recognise: those whose taker fell silent first, then new ones; record the poll.
-- KEYS: 1 recognise (stream), 2 recognisers (sorted set)
-- ARGV: 1 consumer, 2 max to take, 3 lease (ms), 4 max deliveries of one, 5 record its polls every (ms),
--       6 delete consumers that were silent for (ms), 7 TTL (s)
-- Returns: {id, member, utterance} of each taken
-- Atomic: all of it
-- Retry: the entries of a lost answer come back after the lease
--- @include "clock"
--- @include "recogniser_group"

local LOOKS = 64  -- entries and consumers in one go: some microseconds each
local now = tonumber(now_ms())
local looked = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or 0)
if now - looked >= tonumber(ARGV[5]) then
  redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[1])
  redis.call('EXPIRE', KEYS[2], ARGV[7])
  local silent = string.format('%.0f', now - tonumber(ARGV[6]))
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', silent, 'LIMIT', 0, LOOKS)) do
    local held = redis.pcall('XPENDING', KEYS[1], RECOGNISERS, '-', '+', 1, name)
    if held.err or #held == 0 then
      redis.pcall('XGROUP', 'DELCONSUMER', KEYS[1], RECOGNISERS, name)
      redis.call('ZREM', KEYS[2], name)
    end
  end
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {}
end

local room, taken = tonumber(ARGV[2]), {}
local function take(entry)
  if entry and entry[2] then  -- an entry that its holder withdrew is empty
    taken[#taken + 1] = {entry[1], entry[2][2], entry[2][4]}
  end
end

local pending = redis.pcall('XPENDING', KEYS[1], RECOGNISERS, 'IDLE', ARGV[3], '-', '+', LOOKS)
if pending.err then
  redis.call('XGROUP', 'CREATE', KEYS[1], RECOGNISERS, '0')
  pending = {}
end
for _, item in ipairs(pending) do
  if item[4] >= tonumber(ARGV[4]) then
    -- Its holder finds it removed, and recognises it itself.
    redis.call('XACK', KEYS[1], RECOGNISERS, item[1])
    redis.call('XDEL', KEYS[1], item[1])
  elseif #taken < room then
    take(redis.call('XCLAIM', KEYS[1], RECOGNISERS, ARGV[1], 0, item[1])[1])
  end
end
if #taken < room then
  local new = redis.call('XREADGROUP', 'GROUP', RECOGNISERS, ARGV[1], 'COUNT', room - #taken, 'STREAMS', KEYS[1], '>')
  for _, entry in ipairs(new and new[1] and new[1][2] or {}) do
    take(entry)
  end
end
return taken
