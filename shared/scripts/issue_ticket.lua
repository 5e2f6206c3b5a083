#!lua
-- Makes a one-use ticket.
--
-- KEYS  1 ticket
-- ARGV  1 its holder, JSON   2 how long it is good, seconds
-- Returns  1.
-- Atomic because a ticket without an end would be good for ever.

redis.call('HSET', KEYS[1], 'holder', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
