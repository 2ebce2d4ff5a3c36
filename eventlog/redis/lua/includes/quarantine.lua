-- A run that was set aside: its entry in the list, and how its keys live on.

-- The list's entry, if it is there and names `member`.
local function listed(list, entry, member)
  local found = redis.call('XRANGE', list, entry, entry)
  return found[1] and found[1][2][2] == member
end

-- Whether workers can take `member` just now, or one has it.
local function on_offer(sessions, entries, member)
  local entry = redis.call('HGET', entries, member)
  return entry and #redis.call('XRANGE', sessions, entry, entry) > 0
end

local function keep(ttl_s, ...)
  for _, key in ipairs({...}) do
    redis.call('EXPIRE', key, ttl_s)
  end
end

-- Take an entry off the list: OK and the last fact's id where its run may be decided upon, else why not.
local function take_off(list, checkpoint, transcript, sessions, entries, entry, member)
  if not listed(list, entry, member) then
    return CODE.LOST
  end
  local last = redis.call('XREVRANGE', transcript, '+', '-', 'COUNT', 1)
  redis.call('XDEL', list, entry)
  if not last[1] then
    return CODE.GONE
  end
  if last[1][1] == END or redis.call('HEXISTS', checkpoint, 'done') == 1 then
    return CODE.SEALED
  end
  if on_offer(sessions, entries, member) then
    return CODE.EXISTS
  end
  return CODE.OK, last[1][1]
end
