#!lua flags=allow-oom
-- Purpose: store results of shared recognition for a run's holder, unless the run has ended.
-- KEYS: 1 session (hash), 2 transcript (stream), 3 checkpoint (hash), 4 recognised (hash)
-- ARGV: 1 TTL (s), then per utterance: name, recognition (JSON)
-- Returns: 1 if they were stored, else 0: the session is gone, or the run has ended
-- Atomic: all of it, so that no key of an erased session comes back
-- Retry: harmless
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('EXISTS', KEYS[2]) == 0
    or redis.call('HEXISTS', KEYS[3], 'done') == 1 then
  return 0
end
for i = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1])
end
redis.call('EXPIRE', KEYS[4], ARGV[1])
return 1
