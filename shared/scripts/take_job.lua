#!lua
-- Takes a place for one more job among those that a user has in flight.
--
-- KEYS  1 the user's jobs: sorted set of job ids by the time they were taken
-- ARGV  1 job_id  2 places  3 milliseconds to keep the set   4… ids of jobs that are known to be over
-- Returns  {'TAKEN'}
--          {'FULL', job id, milliseconds since it was taken, …} all that hold a place
-- Atomic because two gateways that count and then add would both take the last place. Sent twice, it
-- answers the same. Whether a job is over stands in its own hash, in another slot: nobody reports it
-- here, the caller looks when there is no place left, and calls again with what it found.

for i = 4, #ARGV do redis.call('ZREM', KEYS[1], ARGV[i]) end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local is_known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not is_known and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  local full = {'FULL'}
  local held = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
  for i = 1, #held, 2 do
    full[#full + 1] = held[i]
    full[#full + 1] = now - tonumber(held[i + 1])
  end
  return full
end
redis.call('ZADD', KEYS[1], 'NX', now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'TAKEN'}
