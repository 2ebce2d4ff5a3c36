#!lua flags=allow-oom
-- Purpose: free a session's processed audio that was kept for replays, since memory is short.
-- KEYS: 1 session (hash), 2 audio (stream), 3 checkpoint (hash)
-- ARGV: 1 keep unarchived audio (0 or 1)
-- Returns: how many entries were freed
-- Atomic: all of it
-- Retry: 0, and nothing changes
--- @include "codes"
--- @include "ids"

local kept = redis.call('HMGET', KEYS[1], 'archived', 'replayed')
local state = redis.call('HMGET', KEYS[3], 'boundaries', 'done')
-- A replay needs all of the audio; a quarantined run may be redriven, from its last boundary on.
if kept[2] or not state[1] then
  return 0
end
local below = END
if not state[2] then
  local first
  for _, boundary in ipairs(cjson.decode(state[1])) do
    first = math.min(first or boundary, boundary)
  end
  below = string.format('%.0f', first or 0) .. '-0'
end
-- Also where an archive is written that nothing waits for.
if ARGV[1] == '1' or kept[1] then
  local archived = (kept[1] or '0') .. '-0'
  if id_before(archived, below) then
    below = archived
  end
end
return redis.call('XTRIM', KEYS[2], 'MINID', '~', below)
