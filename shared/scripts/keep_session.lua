#!lua flags=allow-oom
-- Keeps a user's sessions for as long as they are used.
--
-- KEYS  1 the user's sessions: sorted set of session ids by the time they were last used
-- ARGV  1 a session that is used now, '' to look only   2 milliseconds of its life   3 how many are kept
-- Returns  session ids, each with the milliseconds since 1970 of its last use, newest first.
-- Atomic for its clock, and because of too many the longest unused goes. Sent twice, it does nothing the
-- second time.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local life = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - life)
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
  redis.call('PEXPIRE', KEYS[1], life)
end
return redis.call('ZREVRANGE', KEYS[1], 0, -1, 'WITHSCORES')
