#!lua
-- Purpose: add a webhook subscription of a tenant, unless the tenant is at its limit.
-- KEYS: 1 the tenant's subscriptions (hash)
-- ARGV: 1 limit of a tenant, 2 id of the subscription, 3 the subscription
-- Returns: OK, EXISTS (nothing changed) or FULL (nothing changed)
-- Atomic: all of it
-- Retry: EXISTS
--- @include "codes"

if redis.call('HEXISTS', KEYS[1], ARGV[2]) == 1 then
  return CODE.EXISTS
end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return CODE.FULL
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return CODE.OK
