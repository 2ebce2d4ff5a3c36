#!lua
-- Purpose: mark a session as archived, before any part of it is written, so that its erasure reaches the archive.
-- KEYS: 1 session (hash)
-- ARGV: 1 time between two cuts (s)
-- Returns: {code, archived up to (samples), time between two cuts (s), start event}: OK; GONE (erased, expired)
-- Atomic: all of it
-- Retry: the same answer, and nothing changes; the first caller sets the cuts
--- @include "codes"

local start = redis.call('HGET', KEYS[1], 'start')
if not start then
  return {CODE.GONE, '0', '0', ''}
end
redis.call('HSETNX', KEYS[1], 'archived', '0')
redis.call('HSETNX', KEYS[1], 'archive_part_s', ARGV[1])
local stands = redis.call('HMGET', KEYS[1], 'archived', 'archive_part_s')
return {CODE.OK, stands[1], stands[2], start}
