#!lua flags=allow-oom
-- Leases a place for one more stream among those that a user has open.
--
-- KEYS  1 the user's streams: sorted set of stream ids by the end of their leases
-- ARGV  1 stream id  2 places  3 milliseconds of a lease   4… ids of streams that are closed
-- Returns  1 when it is leased, 0 when every place is.
-- Atomic because two gateways that count and then add would both take the last place. Sent twice, it
-- answers the same.

for i = 4, #ARGV do redis.call('ZREM', KEYS[1], ARGV[i]) end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local is_known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not is_known and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
