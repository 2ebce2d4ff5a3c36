#!lua flags=allow-oom
-- Purpose: end a session from outside, if Redis's own clock says that it was idle for long enough, or that the deadline
--          has passed which `close_session` gave it.
-- KEYS: 1 session (hash), 2 audio (stream)
-- ARGV: 1 idle bound (ms; 0 seals whatever its age), 2 sealed event (JSON with "offset_samples":0), 3 the same for a
--       session whose deadline has passed
-- Returns: {code, head}: OK, GONE, SEALED or NOT_IDLE
-- Atomic: look and seal
-- Retry: SEALED, and nothing changes
--- @include "codes"
--- @include "clock"
--- @include "guard"

local state = redis.call('HMGET', KEYS[1], 'guard', 'seen_ms', 'closes')
if not state[1] then
  return {CODE.GONE, '0-0'}
end
local epoch, head = parts(state[1])
if head == END then
  return {CODE.SEALED, head}
end
local now, sealed = now_ms(), ARGV[2]
local closing, deadline = string.match(state[3] or '', '^(%d+) (%d+)$')
if ARGV[1] ~= '0' and closing == epoch and tonumber(deadline) <= tonumber(now) then
  sealed = ARGV[3]
elseif tonumber(now) - tonumber(state[2]) < tonumber(ARGV[1]) then
  return {CODE.NOT_IDLE, head}
end
local offset = string.match(head, '^(%d+)-')
local event = string.gsub(sealed, '"offset_samples":0', '"offset_samples":' .. offset)
if not redis.call('XADD', KEYS[2], 'NOMKSTREAM', END, 'event', event, 'at_ms', now) then
  return {CODE.GONE, head}
end
redis.call('HSET', KEYS[1], 'guard', epoch .. ' ' .. END)
return {CODE.OK, head}
