#!lua flags=allow-oom
-- Purpose: record up to where a session's audio is archived; with argument 2, free audio both archived and processed.
-- KEYS: 1 session (hash), 2 audio (stream), 3 live run's checkpoint (hash)
-- ARGV: 1 archived up to (samples; the largest number once all of the session is), 2 free (0 or 1)
-- Returns: code: OK or GONE (erased or expired meanwhile)
-- Atomic: all of it
-- Retry: OK, and nothing changes; a further position stays
--- @include "codes"
--- @include "ids"

local state = redis.call('HMGET', KEYS[1], 'archived', 'replayed')
if not state[1] then
  return CODE.GONE
end
local archived = state[1]
if number_before(archived, ARGV[1]) then
  archived = ARGV[1]
  redis.call('HSET', KEYS[1], 'archived', archived)
end
-- Audio that a replay has started on stays: its progress is unknown here.
if ARGV[2] == '0' or state[2] then
  return CODE.OK
end
local checkpoint = redis.call('HMGET', KEYS[3], 'boundaries', 'done')
if archived .. '-' .. archived == END and checkpoint[2] then
  redis.call('XTRIM', KEYS[2], 'MINID', '=', END)
elseif checkpoint[1] then
  local bound = archived
  for _, boundary in ipairs(cjson.decode(checkpoint[1])) do
    local offset = string.format('%.0f', boundary)
    if number_before(offset, bound) then
      bound = offset
    end
  end
  redis.call('XTRIM', KEYS[2], 'MINID', '~', bound .. '-0')
end
return CODE.OK
