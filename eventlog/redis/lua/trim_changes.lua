#!lua flags=allow-oom
-- Purpose: free notices that no projection needs any more, then those above a bound; delete consumers without notices.
-- KEYS: 1 changes (stream), 2 walks (hash)
-- ARGV: 1 max notices to keep, 2 silence after which a consumer without notices is deleted (ms)
-- Returns: {freed, freed that a projection still needed, list of the projections that have to walk because of it}
-- Atomic: all of it, so that no notice is freed between look and order to walk
-- Retry: harmless
--- @include "ids"

local changes, bound = KEYS[1], tonumber(ARGV[1])
if redis.call('EXISTS', changes) == 0 then
  return {0, 0, {}}
end

local function fields(info)
  local found = {}
  for i = 1, #info, 2 do
    found[info[i]] = info[i + 1]
  end
  return found
end

local groups, lowest = {}, nil
for _, info in ipairs(redis.call('XINFO', 'GROUPS', changes)) do
  local group = fields(info)
  -- The last one delivered is kept although it may be acked: one notice, and no arithmetic on ids.
  local needs = group['last-delivered-id']
  if group.pending > 0 then
    needs = redis.call('XPENDING', changes, group.name)[2]
  end
  groups[#groups + 1] = {name = group.name, delivered = group['last-delivered-id'], pending = group.pending, needs = needs}
  if not lowest or id_before(needs, lowest) then
    lowest = needs
  end
  for _, consumer_info in ipairs(redis.call('XINFO', 'CONSUMERS', changes, group.name)) do
    local consumer = fields(consumer_info)
    if consumer.pending == 0 and consumer.idle > tonumber(ARGV[2]) then
      redis.call('XGROUP', 'DELCONSUMER', changes, group.name, consumer.name)
    end
  end
end

local freed = lowest and redis.call('XTRIM', changes, 'MINID', '=', lowest) or 0
local over = redis.call('XLEN', changes) - bound
if over <= 0 then
  return {freed, 0, {}}
end
redis.call('XTRIM', changes, 'MAXLEN', '=', bound + 1)
local last_freed = redis.call('XRANGE', changes, '-', '+', 'COUNT', 1)[1][1]
redis.call('XTRIM', changes, 'MAXLEN', '=', bound)
local walking = {}
for _, group in ipairs(groups) do
  if id_before(group.delivered, last_freed) or (group.pending > 0 and not id_before(last_freed, group.needs)) then
    redis.call('HSET', KEYS[2], group.name, last_freed)
    walking[#walking + 1] = group.name
  end
end
return {freed, over, walking}
