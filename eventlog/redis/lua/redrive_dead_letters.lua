#!lua flags=allow-oom
-- Purpose: offer dead letters of a sink to its forwarder once more; delete those whose facts are gone.
-- KEYS: 1 dead letters (stream), 2 redriven (stream), 3 changes wake-up (channel), then per letter: transcript (stream)
-- ARGV: 1 message for the wake-up, 2 max entries of redriven, then per letter: entry id
-- Returns: per letter 1 if it was moved, 2 if it was deleted, 0 if it does not exist, 3 if redriven is full
-- Atomic: all of it, so that an erasure meets a letter in one of the two places, or in none
-- Retry: 0 for those that an earlier try moved or deleted
local FIXED_KEYS, FIXED_ARGUMENTS = 3, 2
local ttl = redis.call('TTL', KEYS[1])
local answers, moved = {}, false

local function redrive(id, transcript)
  local letter = redis.call('XRANGE', KEYS[1], id, id)[1]
  if not letter then
    return 0
  end
  if redis.call('EXISTS', transcript) == 0 then
    redis.call('XDEL', KEYS[1], id)
    return 2
  end
  if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[2]) then
    return 3
  end
  redis.call('XADD', KEYS[2], '*', unpack(letter[2]))
  redis.call('XDEL', KEYS[1], id)
  moved = true
  return 1
end

for i = FIXED_ARGUMENTS + 1, #ARGV do
  answers[#answers + 1] = redrive(ARGV[i], KEYS[FIXED_KEYS + i - FIXED_ARGUMENTS])
end
if moved then
  if ttl > 0 then
    redis.call('EXPIRE', KEYS[2], ttl)
  end
  redis.call('SPUBLISH', KEYS[3], ARGV[1])
end
return answers
