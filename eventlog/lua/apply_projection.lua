#!lua flags=allow-oom
-- Purpose: apply what a projection made of a run's facts and move its position, if nobody else has done so meanwhile.
-- KEYS: 1 projected (string), 2 transcript (stream), then the operations' keys and channels
-- ARGV: 1 expected position, 2 new position, 3 TTL (s), then per operation: number of its key, expires (0 or 1),
--       number of arguments, command, arguments after the key; of XADD these begin MAXLEN ~ <length> <id>
-- Returns: {code, position, reason}: OK; STALE (somebody moved it); GONE (no facts any more); MISPLACED (the read model isn't
--          what the operations were made for)
-- Atomic: all of it or nothing; types and ids are checked before the first write
-- Retry: STALE with the new position, and nothing changes
--- @include "codes"
--- @include "ids"

local TYPES = {
  RPUSH = 'list', SET = 'string', HSET = 'hash', XADD = 'stream', ZADD = 'zset', ZREM = 'zset',
  ZREMRANGEBYSCORE = 'zset', SPUBLISH = 'none',
}
local HEADER = 3

local function each_operation(visit)
  local i = HEADER + 1
  while i <= #ARGV do
    local count = tonumber(ARGV[i + 2])
    local reason = visit(KEYS[tonumber(ARGV[i])], ARGV[i + 1] == '1', ARGV[i + 3], i + 4, i + 3 + count)
    if reason then
      return reason
    end
    i = i + 4 + count
  end
end

local last_ids = {}

local function refused(key, _, command, first)
  local wanted = TYPES[command]
  if not wanted then
    return command .. ' is not allowed'
  end
  local found = command == 'SPUBLISH' and 'none' or redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= wanted then
    return command .. ' meets a ' .. found
  end
  local id = ARGV[first + 3]
  if command == 'XADD' and id ~= '*' then
    if not last_ids[key] then
      local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
      last_ids[key] = last[1] and last[1][1] or '0-0'
    end
    if not id_before(last_ids[key], id) then
      return 'the stream is at ' .. last_ids[key] .. ' and ' .. id .. ' comes no later'
    end
    last_ids[key] = id
  end
end

local expiring = {[KEYS[1]] = true}

local function perform(key, expires, command, first, last)
  redis.call(command, key, unpack(ARGV, first, last))
  if expires then
    expiring[key] = true
  end
end

local position = redis.call('GET', KEYS[1]) or '0-0'
if position ~= ARGV[1] then
  return {CODE.STALE, position, ''}
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  return {CODE.GONE, position, ''}
end
local reason = each_operation(refused)
if reason then
  return {CODE.MISPLACED, position, reason}
end
each_operation(perform)
redis.call('SET', KEYS[1], ARGV[2])
for key in pairs(expiring) do
  redis.call('EXPIRE', key, ARGV[3])
end
return {CODE.OK, ARGV[2], ''}
