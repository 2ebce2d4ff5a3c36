#!lua flags=no-writes,allow-oom
-- Purpose: find every run of certain sessions in the partition's index, replays too.
-- KEYS: 1 index (sorted set)
-- ARGV: 1… session ids
-- Returns: list of members "<session> <run>"
-- Atomic: all of it
-- Retry: harmless
local LOOKED_AT = 1000

local wanted, found, cursor = {}, {}, '0'
for i = 1, #ARGV do
  wanted[ARGV[i]] = true
end
repeat
  local scanned = redis.call('ZSCAN', KEYS[1], cursor, 'COUNT', LOOKED_AT)
  cursor = scanned[1]
  for i = 1, #scanned[2], 2 do
    if wanted[string.match(scanned[2][i], '^[^ ]*')] then
      found[#found + 1] = scanned[2][i]
    end
  end
until cursor == '0'
return found
