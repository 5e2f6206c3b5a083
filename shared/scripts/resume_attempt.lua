#!lua
-- Gives an attempt back to its worker after Redis lost its beginning.
--
-- KEYS  1 thread  2 thread events  3 log  4 commands  5 job
-- ARGV  1 job_id  2 thread_id  3 attempt  4 owner token  5 seq of `started`  6 `started`
-- Returns  {'RESUMED', last_seq}  append again from last_seq + 1
--          {'FENCED', last_seq}   somebody else has the job, or it is over
--          {'UNKNOWN', 0}         Redis does not know the job
-- Two ways lead here. The archive knew the attempt, and restore_thread has left its right open ('');
-- or nobody knew, and Redis stands at the end of the attempt before, of which `started` is the next
-- event. In every other case somebody may have begun since.
-- Atomic because the right must not be given to two.

local closed = unverified(KEYS[1])
if closed then return closed end
local thread, events, log, job = KEYS[1], KEYS[2], KEYS[3], KEYS[5]
local job_id, thread_id, attempt, seq = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])

local j = redis.call('HMGET', job, 'status', 'attempt', 'seq', 'owner_token')
local status, last = j[1], tonumber(j[3])
if not status then return {'UNKNOWN', 0} end
if status ~= 'queued' and status ~= 'running' then return {'FENCED', last} end
local function run() moves(string.match(KEYS[4], '^{[^}]*}'), 'job', thread_id, '', job_id, status, 'running', 'resumed') end
if tonumber(j[2]) == attempt then
  if j[4] == ARGV[4] then return {'RESUMED', last} end  -- sent again
  if j[4] ~= '' then return {'FENCED', last} end
  run()
  redis.call('HSET', job, 'owner_token', ARGV[4], 'status', 'running')
  return {'RESUMED', last}
end
if tonumber(j[2]) ~= attempt - 1 or last ~= seq - 1 then return {'FENCED', last} end

local position = redis.call('HINCRBY', thread, 'position', 1)
local line = append(events, log, thread_id, position, job_id, seq, 'started', ARGV[6])
run()
redis.call('HSET', job, 'status', 'running', 'attempt', attempt, 'seq', seq, 'owner_token', ARGV[4], 'begun_by', ARGV[4])
redis.call('SPUBLISH', thread, line)
return {'RESUMED', seq}
