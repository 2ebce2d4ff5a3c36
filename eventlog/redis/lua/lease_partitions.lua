#!lua flags=allow-oom
-- Purpose: keep, take or give up the right to forward partitions' events to a sink, and see who else has it.
-- KEYS: per partition: forwarder (string), changes bell (channel)
-- ARGV: 1 consumer, 2 lease (ms), 3 message for the bell of one that is given up, then per partition: wanted (0 or 1)
-- Returns: per partition who has it now, "" for nobody
-- Atomic: per partition, so that two never both take a free one
-- Retry: harmless
local consumer = ARGV[1]
local FIXED = 3

local function hold(key, bell, wanted)
  -- Not GET alone: a key of another type must not stop the others.
  local holder = redis.pcall('GET', key) or ''
  if type(holder) ~= 'string' then
    return '?'
  end
  if holder ~= '' and holder ~= consumer then
    return holder
  end
  if wanted then
    redis.call('SET', key, consumer, 'PX', ARGV[2])
    return consumer
  end
  if holder == consumer then
    redis.call('UNLINK', key)
    redis.call('SPUBLISH', bell, ARGV[3])
  end
  return ''
end

local holders = {}
for i = 1, #KEYS, 2 do
  holders[#holders + 1] = hold(KEYS[i], KEYS[i + 1], ARGV[FIXED + (i + 1) / 2] == '1')
end
return holders
