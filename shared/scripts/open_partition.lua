#!lua
-- Opens a partition for writing: what the archive knows of it, Redis knows.
--
-- KEYS  1 meta
-- ARGV  1 the life of the partition in which that was made sure
-- Returns  1 when it is open, 0 when that life is over: make sure again.
-- Atomic because what was restored may have been lost in between.

if redis.call('HGET', KEYS[1], 'life') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'verified', '1')
return 1
