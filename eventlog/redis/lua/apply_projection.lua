#!lua flags=allow-oom
-- Purpose: apply a projection's operations on runs and move its positions, unless another consumer has moved them.
-- KEYS: per run: projected (string), transcript (stream), then its operations' keys and channels
-- ARGV: 1 TTL (s), then per run: number of its keys, number of arguments after these four, expected position, new position,
--       then per operation: number of its key among the run's (0 for none), expires (0 or 1), number of arguments,
--       command, arguments after the key; of XADD these begin MAXLEN ~ <length> <id>
-- Returns: per run {code, position, reason}: OK; STALE (another consumer moved it); GONE (no facts any more); MISPLACED (the read
--          model isn't the one that the operations were made for)
-- Atomic: of each run all or nothing; types and ids are checked before its first write
-- Retry: STALE with the new position, and nothing changes
--- @include "codes"
--- @include "ids"

local TYPES = {
  RPUSH = 'list', SET = 'string', HSET = 'hash', XADD = 'stream', ZADD = 'zset', ZREM = 'zset',
  ZREMRANGEBYSCORE = 'zset', SPUBLISH = 'none', PUBLISH = 'none', EXPIRE = 'any',
}
local TTL = tonumber(ARGV[1])
local HEADER = 4

local function each_operation(first_key, i, last, visit)
  while i <= last do
    local number, count = tonumber(ARGV[i]), tonumber(ARGV[i + 2])
    local key = number > 0 and KEYS[first_key + number - 1] or nil
    local reason = visit(key, ARGV[i + 1] == '1', ARGV[i + 3], i + 4, i + 3 + count)
    if reason then
      return reason
    end
    i = i + 4 + count
  end
end

-- Keys are their run's own, but for the partition's, which no stream's ids are checked of.
local last_ids = {}

local function refused(key, _, command, first)
  local wanted = TYPES[command]
  if not wanted then
    return command .. ' is not allowed'
  end
  if (key == nil) ~= (command == 'PUBLISH') then
    return command .. ' with the wrong key'
  end
  if wanted == 'none' or wanted == 'any' then
    return
  end
  local found = redis.call('TYPE', key).ok
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

local expiring, own_ttl

local function perform(key, expires, command, first, last)
  if command == 'EXPIRE' then
    own_ttl[key] = ARGV[first]
    return
  end
  if key then
    redis.call(command, key, unpack(ARGV, first, last))
  else
    redis.call(command, unpack(ARGV, first, last))
  end
  if expires then
    expiring[key] = true
  end
end

local function apply(first_key, first, last, expected, new)
  local projected = KEYS[first_key]
  local position = redis.call('GET', projected) or '0-0'
  if position ~= expected then
    return {CODE.STALE, position, ''}
  end
  if redis.call('EXISTS', KEYS[first_key + 1]) == 0 then
    return {CODE.GONE, position, ''}
  end
  local reason = each_operation(first_key, first, last, refused)
  if reason then
    return {CODE.MISPLACED, position, reason}
  end
  expiring, own_ttl = {}, {}
  each_operation(first_key, first, last, perform)
  redis.call('SET', projected, new, 'EX', TTL)
  for key in pairs(expiring) do
    -- A fiftieth of its time early is as good, and reading a TTL writes to no file and to no replica.
    local left = own_ttl[key] and TTL or redis.call('TTL', key)
    if left < TTL * 0.98 or left > TTL then
      redis.call('EXPIRE', key, TTL)
    end
  end
  for key, ttl in pairs(own_ttl) do
    redis.call('EXPIRE', key, ttl)
  end
  return {CODE.OK, new, ''}
end

local answers = {}
local key, at = 1, 2
while at <= #ARGV do
  local last = at + HEADER - 1 + tonumber(ARGV[at + 1])
  answers[#answers + 1] = apply(key, at + HEADER, last, ARGV[at + 2], ARGV[at + 3])
  key = key + tonumber(ARGV[at])
  at = last + 1
end
return answers
