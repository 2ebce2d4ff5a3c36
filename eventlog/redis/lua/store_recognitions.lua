#!lua flags=allow-oom
-- Purpose: keep what was recognised for a run's holder, if the run still goes on.
-- KEYS: 1 session (hash), 2 transcript (stream), 3 checkpoint (hash), 4 recognised (hash)
-- ARGV: 1 TTL (s), then per utterance: which, recognition (JSON)
-- Returns: 1 if it was kept, else 0: the session is gone, or the run has ended
-- Atomic: all of it, so that nothing comes back of a session that was erased
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
