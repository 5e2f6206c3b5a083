#!lua flags=allow-oom
-- Renews the leases of a user's streams, and gives up those of closed ones.
--
-- KEYS  1 the user's streams: sorted set of stream ids by the end of their leases
-- ARGV  1 milliseconds of a lease  2 number of open streams n, then n ids, then ids of closed ones
-- Returns  the number of streams the user has now, on all gateways.
-- Atomic for its clock: all leases of a call end together. Sent twice, it does the same. A server that
-- has lost the set gets it back with this call.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local closed = 3 + tonumber(ARGV[2])
for i = 3, closed - 1 do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[i]) end
for i = closed, #ARGV do redis.call('ZREM', KEYS[1], ARGV[i]) end
if closed > 3 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return redis.call('ZCARD', KEYS[1])
