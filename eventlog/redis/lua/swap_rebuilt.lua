#!lua flags=allow-oom
-- Purpose: put a run's rebuilt read model in the place of the old one, if it has all facts that the old one has.
-- KEYS: 1 projected (string), 2 transcript (stream), 3 position of the copy (string), 4 dead letters (stream),
--       5 feed channel (channel), 6 promoted (string), then per part of the read model, of any type: its key, the
--       live run's moved key or a replay's public one, the copy, the key that keeps the old one; then per place in a listing
--       the listing (sorted set)
-- ARGV: 1 position that the copy is expected at, 2 TTL where no key has one (s), 3 time to keep the old one (s; none
--       if 0), 4 listings of a foreign type go (0 or 1), 5 run, 6 number of parts, 7 number of places, then … of each
--       part whether it is in the copy (0 or 1) and the end of its life (ms; 0 where the TTL says it); of each place
--       the score ("" for nowhere), whether the listing expires (0 or 1), and the member; the number of messages, of
--       each the plain channel or "", and the message; the number of old letters and their ids; of each new letter the
--       number of its arguments and the arguments of XADD
-- Returns: {code, position of the old one, places that changed}: OK; STALE (the old one has more facts); LOST (the copy
--          isn't as expected); GONE (no facts any more, and now no copy); MISPLACED (a listing, or the letters, are of
--          a foreign type)
-- Atomic: all of it or nothing; types are checked before the first write
-- Retry: LOST, and nothing changes
--- @include "codes"
--- @include "clock"
--- @include "ids"

local FIXED_KEYS, KEYS_EACH = 6, 4
local FIXED_ARGUMENTS, ARGUMENTS_EACH, ARGUMENTS_PER_PLACE = 7, 2, 3
local LIVE = 'live'
local TTL_MS, KEEP_S, MENDS, RUN = 1000 * tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5]
local PARTS, PLACES = tonumber(ARGV[6]), tonumber(ARGV[7])

local function part(i)
  local key, argument = FIXED_KEYS + (i - 1) * KEYS_EACH, FIXED_ARGUMENTS + (i - 1) * ARGUMENTS_EACH
  return {
    own = KEYS[key + 1], other = KEYS[key + 2], copy = KEYS[key + 3], before = KEYS[key + 4],
    is_copied = ARGV[argument + 1] == '1', due_ms = tonumber(ARGV[argument + 2]),
  }
end

local function place(i)
  local argument = FIXED_ARGUMENTS + PARTS * ARGUMENTS_EACH + (i - 1) * ARGUMENTS_PER_PLACE
  return KEYS[FIXED_KEYS + PARTS * KEYS_EACH + i], ARGV[argument + 1], ARGV[argument + 2] == '1', ARGV[argument + 3]
end

local function type_of(key)
  return redis.call('TYPE', key).ok
end

local function fits(key, wanted)
  local found = type_of(key)
  return found == 'none' or found == wanted
end

-- An invalid or missing position is the beginning: nothing is known of the keys beside it.
local function position(key)
  local found = redis.pcall('GET', key)
  return type(found) == 'string' and string.match(found, '^%d+%-%d+$') or '0-0'
end

local mine, old = position(KEYS[3]), position(KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('UNLINK', KEYS[3])
  for i = 1, PARTS do
    redis.call('UNLINK', part(i).copy)
  end
  return {CODE.GONE, old, 0}
end
if mine ~= ARGV[1] then
  return {CODE.LOST, mine, 0}
end
for i = 1, PARTS do
  if part(i).is_copied ~= (redis.call('EXISTS', part(i).copy) == 1) then
    return {CODE.LOST, mine, 0}
  end
end
if id_before(mine, old) then
  -- Past the last fact, it covers facts that were lost since: then the existing facts count.
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
  if last[1] and (not id_before(last[1][1], old) or id_before(mine, last[1][1])) then
    return {CODE.STALE, old, 0}
  end
end
local messages = FIXED_ARGUMENTS + PARTS * ARGUMENTS_EACH + PLACES * ARGUMENTS_PER_PLACE + 1
local letters = messages + 2 * tonumber(ARGV[messages]) + 1
local new_letters = letters + tonumber(ARGV[letters]) + 1
for i = 1, PLACES do
  local listing = place(i)
  if not MENDS and not fits(listing, 'zset') then
    return {CODE.MISPLACED, old, 0}
  end
end
if new_letters <= #ARGV and not fits(KEYS[4], 'stream') then
  return {CODE.MISPLACED, old, 0}
end

local facts_ms = redis.call('PTTL', KEYS[2])
facts_ms = facts_ms > 0 and facts_ms or TTL_MS

local function life_ms(key, due_ms)
  local left = redis.call('PTTL', key)
  if left > 0 then
    return left
  end
  return due_ms > 0 and math.min(facts_ms, due_ms - tonumber(now_ms())) or facts_ms
end

local promoted = redis.call('GET', KEYS[6])
for i = 1, PARTS do
  local one = part(i)
  local key = RUN == LIVE and promoted and one.other or one.own
  local life = life_ms(key, one.due_ms)
  if KEEP_S > 0 and redis.call('EXISTS', key) == 1 then
    redis.call('RENAME', key, one.before)
    redis.call('EXPIRE', one.before, KEEP_S)
  else
    redis.call('UNLINK', key)
  end
  if one.is_copied and life > 0 then
    redis.call('RENAME', one.copy, key)
    redis.call('PEXPIRE', key, life)
  else
    redis.call('UNLINK', one.copy)
  end
  if RUN == promoted and one.other ~= one.own then
    redis.call('UNLINK', one.other)
    redis.call('COPY', key, one.other)
  end
end
redis.call('SET', KEYS[1], mine, 'PX', life_ms(KEYS[1], 0))
redis.call('UNLINK', KEYS[3])

local changed = 0
for i = 1, PLACES do
  local listing, score, expires, member = place(i)
  if not fits(listing, 'zset') then
    redis.call('UNLINK', listing)
  end
  local before = redis.call('ZSCORE', listing, member)
  if score == '' then
    redis.call('ZREM', listing, member)
  else
    redis.call('ZADD', listing, score, member)
    if expires and redis.call('PTTL', listing) < facts_ms then
      redis.call('PEXPIRE', listing, facts_ms)
    end
  end
  if (redis.call('ZSCORE', listing, member) or '') ~= (before or '') then
    changed = changed + 1
  end
end

-- Subscribers that get the last fact alone see that some are missing, and read them.
if id_before(old, mine) then
  for i = messages + 1, letters - 1, 2 do
    if ARGV[i] == '' then
      redis.call('SPUBLISH', KEYS[5], ARGV[i + 1])
    else
      redis.call('PUBLISH', ARGV[i], ARGV[i + 1])
    end
  end
end
for i = letters + 1, new_letters - 1 do
  redis.pcall('XDEL', KEYS[4], ARGV[i])
end
local at = new_letters
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  redis.call('XADD', KEYS[4], unpack(ARGV, at + 1, at + count))
  redis.call('PEXPIRE', KEYS[4], math.max(redis.call('PTTL', KEYS[4]), TTL_MS))
  at = at + count + 1
end
return {CODE.OK, old, changed}
