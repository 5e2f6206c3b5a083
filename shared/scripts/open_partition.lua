#!lua
-- Opens a partition for writing: what the archive knows of it, Redis knows.
--
-- KEYS  1 meta
-- ARGV  1 the run id of the server for which that was made sure
-- Returns  1 when it is open, 0 when the server is another one meanwhile: make sure again.
-- Atomic because a server that was started again in between may have lost what was restored.

if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'verified', '1')
return 1
