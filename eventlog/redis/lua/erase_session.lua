#!lua flags=allow-oom
-- Purpose: erase a session: end its claims, delete its keys, remove it from every list, leave its id, notify its subscribers.
-- KEYS: 1 erased (sorted set), 2 index (sorted set), 3 sessions (stream), 4 entries (hash), 5 open runs (sorted set),
--       6 ended runs (sorted set), 7 tenant's runs (sorted set), 8 feed channel (channel), 9 archive's erasures (sorted
--       set), 10 session (hash), then the keys to delete
-- ARGV: 1 session id, 2 most ids to keep, 3 time to keep them (ms), then members "<session> <run>"
-- Returns: how many keys were deleted
-- Atomic: all of it, so that every later script finds no session, no claim and no facts, and writes nothing
-- Retry: 0, and nothing changes
--- @include "clock"
--- @include "claim"

local FIXED_KEYS, FIXED_ARGUMENTS = 10, 3
local now = now_ms()
redis.call('ZADD', KEYS[1], 'NX', now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', tonumber(now) - tonumber(ARGV[3])))
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -tonumber(ARGV[2]) - 1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])

if redis.call('HEXISTS', KEYS[10], 'archived') == 1 then
  redis.call('ZADD', KEYS[9], 'NX', now, ARGV[1])
end
local deleted = 0
for i = FIXED_KEYS + 1, #KEYS do
  deleted = deleted + redis.call('UNLINK', KEYS[i])
end
for i = FIXED_ARGUMENTS + 1, #ARGV do
  local member = ARGV[i]
  local entry = redis.call('HGET', KEYS[4], member)
  if entry then
    remove_entry(KEYS[3], KEYS[4], entry, member)
  end
  for _, list in ipairs({KEYS[2], KEYS[5], KEYS[6], KEYS[7]}) do
    redis.call('ZREM', list, member)
  end
  if deleted > 0 then
    redis.call('SPUBLISH', KEYS[8], cjson.encode({'g', member, '', '', ''}))
  end
end
return deleted
