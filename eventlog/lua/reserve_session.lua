#!lua
-- Purpose: take or renew reservations, so that never more than the limit are held at once.
-- KEYS: 1 reservations (sorted set: session id by expiry, Redis ms)
-- ARGV: 1 limit, 2 time to live (ms), 3… session ids
-- Returns: per session id: OK (taken), EXISTS (renewed) or FULL
-- Atomic: all of it, judged in the order given
-- Retry: EXISTS, with a later expiry
--- @include "codes"
--- @include "clock"

local now = tonumber(now_ms())
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local answers = {}
local held = redis.call('ZCARD', KEYS[1])
for i = 3, #ARGV do
  local expiry = string.format('%.0f', now + tonumber(ARGV[2]))
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], expiry, ARGV[i])
    answers[#answers + 1] = CODE.EXISTS
  elseif held < tonumber(ARGV[1]) then
    redis.call('ZADD', KEYS[1], expiry, ARGV[i])
    held = held + 1
    answers[#answers + 1] = CODE.OK
  else
    answers[#answers + 1] = CODE.FULL
  end
end
return answers
