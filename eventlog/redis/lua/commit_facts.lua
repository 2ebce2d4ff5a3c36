#!lua flags=allow-oom
-- Purpose: append a run's facts and move its checkpoint, if the claim is still held and the serial is the expected one.
-- KEYS: 1 sessions (stream), 2 entries (hash), 3 checkpoint (hash), 4 transcript (stream), 5 changes (stream),
--       6 changes wake-up (channel), 7 audio (stream), 8 index (sorted set), 9 session (hash)
-- ARGV: 1 entry, 2 consumer, 3 deliveries, 4 member, 5 expected serial, 6 new serial, 7 cursor (id), 8 boundaries (JSON),
--       9 next utterance, 10 TTL (s), 11 trim audio below (id or ""), 12 ends (0 or 1), 13 keep unarchived audio
--       (0 or 1), 14 changed options (JSON or "" for none), then per fact: id, fact (JSON)
-- Returns: {code, holder, serial}: OK, LOST, GONE, STALE, or MISPLACED (the facts' ids don't rise from the last stored one)
-- Atomic: all of it or nothing; checked before the first write
-- Retry: OK without writing again, for the stored serial is the new one, or `done` names this token
--- @include "codes"
--- @include "clock"
--- @include "claim"
--- @include "ids"

local token = ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3]
local state = redis.call('HMGET', KEYS[3], 'serial', 'done')
local serial = state[1] or '0'
if not holds(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then
  if state[2] == token and serial == ARGV[6] then
    return {CODE.OK, ARGV[2], tonumber(serial)}
  end
  return {CODE.LOST, holder(KEYS[1], ARGV[1]) or '', tonumber(serial)}
end
if redis.call('EXISTS', KEYS[4]) == 0 then
  return {CODE.GONE, ARGV[2], tonumber(serial)}
end
if serial ~= ARGV[5] then
  return {serial == ARGV[6] and CODE.OK or CODE.STALE, ARGV[2], tonumber(serial)}
end
local last = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)
local last_id = last[1] and last[1][1] or '0-0'
for i = 15, #ARGV, 2 do
  if not id_before(last_id, ARGV[i]) then
    return {CODE.MISPLACED, ARGV[2], tonumber(serial)}
  end
  last_id = ARGV[i]
end

for i = 15, #ARGV, 2 do
  redis.call('XADD', KEYS[4], 'NOMKSTREAM', ARGV[i], 'fact', ARGV[i + 1])
end
redis.call('HSET', KEYS[3], 'serial', ARGV[6], 'cursor', ARGV[7], 'boundaries', ARGV[8], 'utterance', ARGV[9],
  'suspicion', 0)
if ARGV[14] ~= '' then
  redis.call('HSET', KEYS[3], 'options', ARGV[14])
end
redis.call('EXPIRE', KEYS[3], ARGV[10])
if ARGV[11] ~= '' then
  local kept = redis.call('HMGET', KEYS[9], 'archived', 'replayed')
  local below = ARGV[11]
  if ARGV[13] == '1' and id_before((kept[1] or '0') .. '-0', below) then
    below = (kept[1] or '0') .. '-0'
  end
  -- A replay may begin on a sealed session while its live run still continues, and needs all of the audio.
  if not kept[2] then
    redis.call('XTRIM', KEYS[7], 'MINID', '~', below)
  end
end
if #ARGV > 14 then
  redis.call('ZADD', KEYS[8], now_ms(), ARGV[4])
  redis.call('XADD', KEYS[5], '*', 'run', ARGV[4])
  redis.call('SPUBLISH', KEYS[6], ARGV[4])
end
if ARGV[12] == '1' then
  redis.call('HSET', KEYS[3], 'done', token)
  remove_entry(KEYS[1], KEYS[2], ARGV[1], ARGV[4])
  redis.call('EXPIRE', KEYS[4], ARGV[10])
  redis.call('EXPIRE', KEYS[7], ARGV[10])
  redis.call('EXPIRE', KEYS[9], ARGV[10])
end
return {CODE.OK, ARGV[2], tonumber(ARGV[6])}
