#!lua flags=allow-oom
-- Purpose: record a role's heartbeat, by Redis's own clock, and delete those of roles that were silent for long.
-- KEYS: 1 heartbeats (hash)
-- ARGV: 1 "<role> <consumer>" or "" to only read, 2 payload (JSON), 3 silence after which one is deleted (ms)
-- Returns: list of field, age (ms), payload of all that remain
-- Atomic: all of it
-- Retry: harmless
--- @include "clock"

local now = tonumber(now_ms())
if ARGV[1] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
end
local all = redis.call('HGETALL', KEYS[1])
local living = {}
for i = 1, #all, 2 do
  local at, payload = string.match(all[i + 1], '^(%d+) (.*)$')
  if at and now - tonumber(at) <= tonumber(ARGV[3]) then
    living[#living + 1] = {all[i], now - tonumber(at), payload}
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return living
