#!lua flags=allow-oom
-- Purpose: grant an upload's sender credit, and free the bytes that no decoder needs to restart.
-- KEYS: 1 sessions (stream), 2 upload guard (hash), 3 upload (stream), 4 upload head (string)
-- ARGV: 1 entry, 2 consumer, 3 deliveries, 4 credit (bytes), 5 restart record (JSON, or ""), 6 trim upload below (id),
--       7 the container's first bytes (or "", if they are stored), 8 TTL (s)
-- Returns: OK, LOST, or GONE (the upload was freed or erased)
-- Atomic: all of it or nothing, so that no byte is freed without its restart record
-- Retry: harmless
--- @include "codes"
--- @include "claim"

if not holds(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then
  return CODE.LOST
end
if redis.call('EXISTS', KEYS[2], KEYS[3]) < 2 then
  return CODE.GONE
end
-- Granted credit never shrinks: a sender may rely on it.
if tonumber(redis.call('HGET', KEYS[2], 'credit_bytes') or 0) < tonumber(ARGV[4]) then
  redis.call('HSET', KEYS[2], 'credit_bytes', ARGV[4])
end
if ARGV[5] ~= '' then
  if ARGV[7] ~= '' then
    redis.call('SET', KEYS[4], ARGV[7], 'EX', ARGV[8])
  end
  redis.call('HSET', KEYS[2], 'restart', ARGV[5])
  redis.call('XTRIM', KEYS[3], 'MINID', ARGV[6])
end
return CODE.OK
