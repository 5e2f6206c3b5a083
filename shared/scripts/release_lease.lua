#!lua flags=allow-oom
-- Gives a job back at once: any reclaimer may take it on its next look.
--
-- KEYS  1 commands  2 job
-- ARGV  1 group  2 consumer  3 attempt  4 owner token  5 idle milliseconds to pretend
--       6 how many hand-overs of a job are counted as such
-- Returns  1 when it was the caller's, else 0 (also when the call is sent again).
-- Atomic for the same reason as renew_lease. The owner token is withdrawn, so that a late append of
-- the caller is fenced, and a call that is sent again counts no second hand-over. Those beyond ARGV 6
-- use attempts up like any other end: a job that never gets done must end.

local j = redis.call('HMGET', KEYS[2], 'attempt', 'owner_token', 'status', 'entry', 'handovers')
if j[1] ~= ARGV[3] or j[2] ~= ARGV[4] or j[3] ~= 'running' then return 0 end
redis.call('HDEL', KEYS[2], 'owner_token')
if tonumber(j[5] or 0) < tonumber(ARGV[6]) then redis.call('HINCRBY', KEYS[2], 'handovers', 1) end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, j[4], 'IDLE', ARGV[5], 'JUSTID')
return 1
