#!lua
-- Purpose: change a webhook subscription, unless it was deleted or changed meanwhile.
-- KEYS: 1 the tenant's subscriptions (hash)
-- ARGV: 1 id of the subscription, 2 the subscription as it was read, 3 its replacement
-- Returns: OK or STALE (nothing changed)
-- Atomic: all of it
-- Retry: STALE, since it is changed already
--- @include "codes"

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return CODE.STALE
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return CODE.OK
