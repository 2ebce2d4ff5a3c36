-- A claim is a pending entry; its token is (entry, consumer, deliveries).
local GROUP = 'processor'

-- The consumer that holds `entry` and its delivery count as a string, or nil.
local function holder(sessions, entry)
  local pending = redis.pcall('XPENDING', sessions, GROUP, entry, entry, 1)
  if pending.err or #pending == 0 then
    return nil, nil
  end
  return pending[1][2], string.format('%.0f', pending[1][4])
end

local function holds(sessions, entry, consumer, deliveries)
  local held_by, count = holder(sessions, entry)
  return held_by == consumer and count == deliveries
end

-- Remove a claim's entry permanently.
local function remove_entry(sessions, entries, entry, member)
  redis.call('XACK', sessions, GROUP, entry)
  redis.call('XDEL', sessions, entry)
  if redis.call('HGET', entries, member) == entry then
    redis.call('HDEL', entries, member)
  end
end

-- Add a fresh, unclaimed entry for `member` and wake the workers with room.
local function offer(sessions, entries, wakeup, member)
  local entry = redis.call('XADD', sessions, '*', 'run', member)
  redis.call('HSET', entries, member, entry)
  redis.call('SPUBLISH', wakeup, member)
  return entry
end
