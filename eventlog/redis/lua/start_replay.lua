#!lua
-- Purpose: start a new run over a session's audio: its first fact, its own start, its claimable entry, a notice.
-- KEYS: 1 session (hash), 2 audio (stream), 3 transcript (stream), 4 checkpoint (hash), 5 sessions (stream),
--       6 entries (hash), 7 index (sorted set), 8 changes (stream), 9 sessions wake-up (channel), 10 changes wake-up (channel),
--       11 erased (sorted set)
-- ARGV: 1 member "<session> <run>", 2 session id, 3 start event (JSON), 4 opened fact (JSON), 5 TTL (s),
--       6 source of the audio ("" for the log), 7 samples of audio in all, 8 name of the queue
-- Returns: code: OK; EXISTS (offered once more if it is unfinished and was not offered); GONE (erased, or no such
--          session in the log); NOT_ENDED; TRIMMED
-- Atomic: all of it or nothing; refused as a whole when memory is full
-- Retry: EXISTS, and nothing changes
--- @include "codes"
--- @include "clock"
--- @include "claim"
--- @include "guard"

if redis.call('ZSCORE', KEYS[11], ARGV[2]) then
  return CODE.GONE
end

local function keep(...)
  for _, key in ipairs({...}) do
    redis.call('EXPIRE', key, ARGV[5])
  end
end

local function put_on_offer()
  offer(KEYS[5], KEYS[6], KEYS[9], ARGV[1])
  redis.pcall('XGROUP', 'CREATE', KEYS[5], GROUP, '0')
  keep(KEYS[5], KEYS[6])
end

if redis.call('EXISTS', KEYS[3]) == 1 then
  local entry = redis.call('HGET', KEYS[6], ARGV[1])
  local offered = entry and #redis.call('XRANGE', KEYS[5], entry, entry) > 0
  -- Not a quarantined one: only `stenolog quarantine redrive` offers that again.
  if not offered and redis.call('HEXISTS', KEYS[4], 'done') + redis.call('HEXISTS', KEYS[4], 'aside') == 0 then
    put_on_offer()
  end
  return CODE.EXISTS
end
if ARGV[6] == '' then
  local guard = redis.call('HGET', KEYS[1], 'guard')
  if not guard then
    return CODE.GONE
  end
  local _, head = parts(guard)
  if head ~= END then
    return CODE.NOT_ENDED
  end
  local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)
  if not first[1] or first[1][1] ~= '0-1' then
    return CODE.TRIMMED
  end
  -- From now on no script frees it; it expires with the session's keys.
  redis.call('HSET', KEYS[1], 'replayed', 1)
end

redis.call('XADD', KEYS[3], '0-1', 'fact', ARGV[4])
redis.call('HSET', KEYS[4], 'start', ARGV[3], 'source', ARGV[6], 'total_samples', ARGV[7],
  'queue', ARGV[8])
keep(KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('ZADD', KEYS[7], now_ms(), ARGV[1])
redis.call('XADD', KEYS[8], '*', 'run', ARGV[1])
put_on_offer()
redis.call('SPUBLISH', KEYS[10], ARGV[1])
return CODE.OK
