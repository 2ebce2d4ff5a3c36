#!lua flags=allow-oom
-- Purpose: delete consumers without claims: one by name, or every one that was silent for long.
-- KEYS: 1 sessions (stream)
-- ARGV: 1 consumer ("" for every silent one), 2 silence (ms)
-- Returns: how many were deleted
-- Atomic: all of it, so no claim can slip in between look and deletion
-- Retry: harmless
--- @include "claim"

local deleted = 0
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], GROUP)
if consumers.err then
  return 0  -- no stream or no group
end
for _, info in ipairs(consumers) do
  local name, pending, idle
  for i = 1, #info, 2 do
    if info[i] == 'name' then name = info[i + 1] end
    if info[i] == 'pending' then pending = info[i + 1] end
    if info[i] == 'idle' then idle = info[i + 1] end
  end
  local meant = ARGV[1] == name or (ARGV[1] == '' and idle > tonumber(ARGV[2]))
  if meant and pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], GROUP, name)
    deleted = deleted + 1
  end
end
return deleted
