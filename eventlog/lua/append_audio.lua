#!lua
-- Purpose: append chunks and control events of many sessions, each guarded by epoch and position.
-- KEYS: per append: session (hash), audio (stream)
-- ARGV: per append: epoch, head believed in (id), new id, field ("pcm" or "event"), payload
-- Returns: per append: 0, or {code, epoch, head}: GONE, SUPERSEDED, MISPLACED or SEALED with what is stored
-- Atomic: per append; a refused one leaves the others alone; refused as a whole when memory is full
-- Retry: MISPLACED with a head at or past the new id, which means done
--- @include "codes"
--- @include "clock"

local now = now_ms()
local answers = {}
for i = 1, #KEYS / 2 do
  local session, audio, a = KEYS[2 * i - 1], KEYS[2 * i], 5 * i - 4
  local state = redis.call('HMGET', session, 'epoch', 'head')
  if not state[1] then
    answers[i] = {CODE.GONE, 0, '0-0'}
  elseif state[1] ~= ARGV[a] then
    answers[i] = {CODE.SUPERSEDED, tonumber(state[1]), state[2]}
  elseif state[2] ~= ARGV[a + 1] then
    local sealed = state[2] == END and ARGV[a + 2] ~= END
    answers[i] = {sealed and CODE.SEALED or CODE.MISPLACED, tonumber(state[1]), state[2]}
  else
    local id = redis.pcall('XADD', audio, 'NOMKSTREAM', ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], 'at_ms', now)
    if id and not id.err then
      redis.call('HSET', session, 'head', ARGV[a + 2], 'seen_ms', now)
      answers[i] = CODE.OK
    else
      -- No stream (expired or erased), or one whose last id is ahead of the head: never stitched over.
      answers[i] = {CODE.GONE, tonumber(state[1]), state[2]}
    end
  end
end
return answers
