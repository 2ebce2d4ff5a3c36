#!lua flags=allow-oom
-- Purpose: renew, take or release the leases on forwarding partitions' events to a sink, and read the other holders.
-- KEYS: per partition: forwarder (string), changes wake-up (channel)
-- ARGV: 1 consumer, 2 lease (ms), 3 message for the wake-up of a released one, then per partition: wanted (0 or 1)
-- Returns: per partition its holder now, "" for none
-- Atomic: per partition, so that two never both take a free one
-- Retry: harmless
local consumer = ARGV[1]
local FIXED = 3

local function lease(key, wakeup, wanted)
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
    redis.call('SPUBLISH', wakeup, ARGV[3])
  end
  return ''
end

local holders = {}
for i = 1, #KEYS, 2 do
  holders[#holders + 1] = lease(KEYS[i], KEYS[i + 1], ARGV[FIXED + (i + 1) / 2] == '1')
end
return holders
