#!lua
-- Purpose: count a request of a tenant in a window of time.
-- KEYS: 1 count of the window (string)
-- ARGV: 1 time to live of the count (s)
-- Returns: the number of requests in the window, this one included
-- Atomic: all of it
-- Retry: counts once more

local count = redis.call('INCR', KEYS[1])
if count == 1 then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return count
