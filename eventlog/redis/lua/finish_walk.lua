#!lua flags=allow-oom
-- Purpose: record that a projection has walked all runs of the index, unless another walk was ordered meanwhile.
-- KEYS: 1 walks (hash)
-- ARGV: 1 projection, 2 walk token
-- Returns: 1 if that was the last order to walk, else 0
-- Atomic: all of it
-- Retry: harmless
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
return redis.call('HDEL', KEYS[1], ARGV[1])
