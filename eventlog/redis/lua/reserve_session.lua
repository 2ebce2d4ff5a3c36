#!lua
-- Purpose: take or renew reservations, so that never more than the limits are held at once.
-- KEYS: 1 reservations (sorted set: session id by expiry, Redis ms), 2… of each tenant (sorted set)
-- ARGV: 1 limit, 2 limit of a tenant (0: none), 3 time to live (ms), then per session: session id, number of its tenant's key
-- Returns: per session id: OK (taken of both), EXISTS (renewed), FULL or TENANT_FULL (nothing taken)
-- Atomic: all of it, judged in the order given
-- Retry: EXISTS, with a later expiry
--- @include "codes"
--- @include "clock"

local now, ttl_ms = tonumber(now_ms()), tonumber(ARGV[3])
local limit, tenant_limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local expiry = string.format('%.0f', now + ttl_ms)
local held = {}
for i = 1, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  held[i] = redis.call('ZCARD', KEYS[i])
end
local answers = {}
for i = 4, #ARGV, 2 do
  local id, tenant = ARGV[i], tonumber(ARGV[i + 1]) + 1
  local there = redis.call('ZSCORE', KEYS[1], id)
  local code = CODE.OK
  if there then
    code = CODE.EXISTS
  elseif held[1] >= limit then
    code = CODE.FULL
  elseif tenant_limit > 0 and held[tenant] >= tenant_limit then
    code = CODE.TENANT_FULL
  end
  if code == CODE.OK or code == CODE.EXISTS then
    held[1] = held[1] + redis.call('ZADD', KEYS[1], expiry, id)
    held[tenant] = held[tenant] + redis.call('ZADD', KEYS[tenant], expiry, id)
    -- Never shortened: another edge's members may be meant to live longer.
    if redis.call('PTTL', KEYS[tenant]) < ttl_ms then
      redis.call('PEXPIRE', KEYS[tenant], ARGV[3])
    end
  end
  answers[#answers + 1] = code
end
return answers
