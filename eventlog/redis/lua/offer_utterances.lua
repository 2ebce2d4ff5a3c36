#!lua
-- Purpose: offer utterances to the other workers, if one of them has polled for any lately.
-- KEYS: 1 recognise (stream), 2 recognisers (sorted set), 3 recognise wake-up (channel)
-- ARGV: 1 consumer that offers, 2 silence after which a worker is busy or gone (ms), 3 max entries, 4 TTL (s),
--       then per utterance: member, utterance (JSON)
-- Returns: ids of the entries made, in order: none if no other worker polls, fewer than offered if the stream is full
-- Atomic: all of it; refused as a whole when memory is full
-- Retry: offers them once more; the taker of the second finds it recognised, or recognises it in vain
--- @include "clock"

local FIXED = 4
local lately = string.format('(%.0f', tonumber(now_ms()) - tonumber(ARGV[2]))
local lookers = redis.call('ZRANGEBYSCORE', KEYS[2], lately, '+inf', 'LIMIT', 0, 2)
if #lookers == 0 or (#lookers == 1 and lookers[1] == ARGV[1]) then
  return {}
end
local room = tonumber(ARGV[3]) - redis.call('XLEN', KEYS[1])
local ids = {}
for i = FIXED + 1, #ARGV, 2 do
  if #ids >= room then
    break
  end
  ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', 'run', ARGV[i], 'utterance', ARGV[i + 1])
end
if #ids > 0 then
  redis.call('EXPIRE', KEYS[1], ARGV[4])
  redis.call('SPUBLISH', KEYS[3], '')
end
return ids
