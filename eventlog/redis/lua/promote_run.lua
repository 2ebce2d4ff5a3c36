#!lua
-- Purpose: give readers of a session another of its runs: its List, document and view replace the other run's.
-- KEYS: 1 erased (sorted set), 2 promoted (string), 3 feed channel (channel),
--       4 live run's transcript (stream), 5 its projected by lists (string), 6 its projected by sessions (string),
--       7 run's transcript (stream), 8 projected by lists (string), 9 projected by feeds (string),
--       10 projected by sessions (string), 11 public list (list), 12 document (string), 13 view (hash),
--       14 live run's moved list (list), 15 document (string), 16 view (hash),
--       17 run's own list (list), 18 document (string), 19 view (hash)
-- ARGV: 1 session id, 2 run
-- Returns: {code, run}: OK, and the run that was promoted so far; GONE (erased, expired or never opened) or NOT_ENDED,
--          and the promoted run
-- Atomic: all of it, so readers receive wholly the one or the other; no writer touches it, since both runs are over
-- Retry: OK and the run itself; its read models are copied again
--- @include "codes"
--- @include "guard"

local LIVE, KINDS, SHOWN, ASIDE, OWN = 'live', 3, 10, 13, 16
local run = ARGV[2]

if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return {CODE.GONE, run}
end
local before = redis.call('GET', KEYS[2]) or LIVE

-- Facts that have expired bring nothing more.
local function is_projected(transcript, first, last)
  if redis.call('EXISTS', KEYS[transcript]) == 1 then
    for i = first, last do
      if redis.call('GET', KEYS[i]) ~= END then
        return false
      end
    end
  end
  return true
end

local own = run ~= LIVE and OWN or before == LIVE and SHOWN or ASIDE
if redis.call('EXISTS', KEYS[own + 2]) == 0 then
  return {redis.call('EXISTS', KEYS[7]) == 1 and CODE.NOT_ENDED or CODE.GONE, run}
end
if not is_projected(7, 8, 10) then
  return {CODE.NOT_ENDED, run}
end
if not is_projected(4, 5, 6) then
  return {CODE.NOT_ENDED, LIVE}
end

-- An empty session has no List.
local function move(from, to)
  if redis.call('EXISTS', from) == 1 then
    redis.call('RENAME', from, to)
  else
    redis.call('UNLINK', to)
  end
end

for i = 1, KINDS do
  if before == LIVE and run ~= LIVE then
    move(KEYS[SHOWN + i], KEYS[ASIDE + i])
  end
  if run ~= LIVE then
    if redis.call('COPY', KEYS[own + i], KEYS[SHOWN + i], 'REPLACE') == 0 then
      redis.call('UNLINK', KEYS[SHOWN + i])
    end
  elseif before ~= LIVE then
    move(KEYS[ASIDE + i], KEYS[SHOWN + i])
  end
end
if run == LIVE then
  redis.call('DEL', KEYS[2])
else
  local life_ms = redis.call('PTTL', KEYS[own + 2])
  redis.call('SET', KEYS[2], run)
  if life_ms > 0 then
    redis.call('PEXPIRE', KEYS[2], life_ms)
  end
end
if run ~= before then
  redis.call('SPUBLISH', KEYS[3], cjson.encode({'r', ARGV[1] .. ' ' .. before, '', '', run}))
end
return {CODE.OK, before}
