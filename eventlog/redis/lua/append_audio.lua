#!lua
-- Purpose: append chunks and control events of many sessions, each guarded by epoch and position.
-- KEYS: per append: session (hash), audio (stream)
-- ARGV: per append: epoch, head believed in (id), new id, field ("pcm" or "event"), payload
-- Returns: per append: 0, or {code, epoch, head}: GONE, SUPERSEDED, MISPLACED or SEALED with the stored ones
-- Atomic: per append; a refused one leaves the others alone; refused as a whole when memory is full
-- Retry: MISPLACED with a head at or past the new id, which means done
--- @include "codes"
--- @include "clock"
--- @include "guard"

local now = now_ms()
local answers = {}
for i = 1, #KEYS / 2 do
  local session, audio, a = KEYS[2 * i - 1], KEYS[2 * i], 5 * i - 4
  local guard = redis.call('HGET', session, 'guard')
  if guard == ARGV[a] .. ' ' .. ARGV[a + 1] then
    local id = redis.pcall('XADD', audio, 'NOMKSTREAM', ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], 'at_ms', now)
    if id and not id.err then
      redis.call('HSET', session, 'guard', ARGV[a] .. ' ' .. ARGV[a + 2], 'seen_ms', now)
      answers[i] = CODE.OK
    else
      -- No stream (expired or erased), or one whose last id is ahead of the head: never stitched over.
      answers[i] = {CODE.GONE, tonumber(ARGV[a]), ARGV[a + 1]}
    end
  elseif not guard then
    answers[i] = {CODE.GONE, 0, '0-0'}
  else
    local epoch, head = parts(guard)
    local code = CODE.MISPLACED
    if epoch ~= ARGV[a] then
      code = CODE.SUPERSEDED
    elseif head == END and ARGV[a + 2] ~= END then
      code = CODE.SEALED
    else
      -- An entry that exists counts as done, so a WAIT behind it must cover it, and covers nothing without a write.
      redis.call('HSET', session, 'guard', guard)
    end
    answers[i] = {code, tonumber(epoch), head}
  end
end
return answers
