#!lua
-- Brings a thread back that Redis let go after it was archived.
--
-- KEYS  1 thread
-- ARGV  1 idle TTL, seconds   2… field, value pairs
-- Returns  1 when it was loaded, 0 when it was there.
-- Atomic because a thread that is there knows more than the archive did when it was read.

local closed = unverified(KEYS[1])
if closed then return closed end
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
