-- A quarantined run: its entry in the list, and its keys' life.

-- Whether the list has the entry, for `member`.
local function is_listed(list, entry, member)
  local found = redis.call('XRANGE', list, entry, entry)
  return found[1] and found[1][2][2] == member
end

-- Whether `member` is offered to workers, or claimed by one.
local function is_offered(sessions, entries, member)
  local entry = redis.call('HGET', entries, member)
  return entry and #redis.call('XRANGE', sessions, entry, entry) > 0
end

local function expire_keys(ttl_s, ...)
  for _, key in ipairs({...}) do
    redis.call('EXPIRE', key, ttl_s)
  end
end

-- Remove an entry from the list: OK and the last fact's id if its run may be redriven or failed, else why not.
local function unlist(list, checkpoint, transcript, sessions, entries, entry, member)
  if not is_listed(list, entry, member) then
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
  if is_offered(sessions, entries, member) then
    return CODE.EXISTS
  end
  return CODE.OK, last[1][1]
end
