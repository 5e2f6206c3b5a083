#!lua flags=allow-oom
-- Gives a job back at once: any reclaimer may take it on its next look.
--
-- KEYS  1 commands  2 job
-- ARGV  1 group  2 consumer  3 attempt  4 owner token  5 idle milliseconds to pretend
-- Returns  1 when it was the caller's, else 0 (also when the call is sent again).
-- Atomic for the same reason as renew_lease. The owner token is withdrawn, so that a late append of
-- the caller is fenced.

local j = redis.call('HMGET', KEYS[2], 'attempt', 'owner_token', 'status', 'entry')
if j[1] ~= ARGV[3] or j[2] ~= ARGV[4] or j[3] ~= 'running' then return 0 end
redis.call('HDEL', KEYS[2], 'owner_token')
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, j[4], 'IDLE', ARGV[5], 'JUSTID')
return 1
