#!lua flags=no-writes,allow-oom
-- Purpose: add up the numbers of open runs, so that only sums travel.
-- KEYS: per run: view (hash), session (hash), checkpoint (hash)
-- ARGV: none
-- Returns: {created, active, closing, finals, audio (ms), lag (ms), greatest lag of one run (ms)}
-- Atomic: each run's three belong together
-- Retry: harmless
--- @include "codes"
--- @include "guard"

local function samples(id)
  return tonumber(string.match(id or '0-0', '^%d+'))
end

local states = {CREATED = 0, ACTIVE = 0, CLOSING = 0}
local finals, audio_ms, lag_ms, worst_ms = 0, 0, 0, 0
for i = 1, #KEYS, 3 do
  local view = redis.call('HMGET', KEYS[i], 'state', 'finals', 'audio_seconds', 'sample_rate')
  local state, rate = view[1], tonumber(view[4] or 0)
  if states[state] then
    local mine_ms, behind_ms = 1000 * tonumber(view[3] or 0), 0
    local guard = redis.call('HGET', KEYS[i + 1], 'guard')
    if guard then
      local _, head = parts(guard)
      if head == END then
        state = 'CLOSING'
      elseif rate > 0 then
        local processed = samples(redis.call('HGET', KEYS[i + 2], 'cursor') or nil)
        mine_ms = math.max(mine_ms, 1000 * samples(head) / rate)
        behind_ms = math.max(0, 1000 * (samples(head) - processed) / rate)
      end
    end
    states[state] = states[state] + 1
    finals = finals + tonumber(view[2] or 0)
    audio_ms = audio_ms + mine_ms
    lag_ms = lag_ms + behind_ms
    worst_ms = math.max(worst_ms, behind_ms)
  end
end
return {
  states.CREATED, states.ACTIVE, states.CLOSING, finals, math.floor(audio_ms + 0.5), math.floor(lag_ms + 0.5),
  math.floor(worst_ms + 0.5),
}
