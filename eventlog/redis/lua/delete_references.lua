#!lua flags=allow-oom
-- Purpose: delete a stream's entries that name a run of certain sessions.
-- KEYS: 1 stream of entries with a field "run" (stream)
-- ARGV: 1 first id to check, 2 how many to check, 3… session ids
-- Returns: {id to continue from, or "" at the end, how many entries were deleted}
-- Atomic: each call
-- Retry: harmless
local wanted = {}
for i = 3, #ARGV do
  wanted[ARGV[i]] = true
end

local function names_one(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'run' then
      return wanted[string.match(fields[i + 1], '^[^ ]*')]
    end
  end
end

local entries = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
local deleted = 0
for _, entry in ipairs(entries) do
  if names_one(entry[2]) then
    deleted = deleted + redis.call('XDEL', KEYS[1], entry[1])
  end
end
if #entries < tonumber(ARGV[2]) then
  return {'', deleted}
end
return {'(' .. entries[#entries][1], deleted}
