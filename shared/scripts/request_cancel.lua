#!lua
-- Cancels a job: on the spot while it waits, through its worker once it runs.
--
-- KEYS  1 thread  2 thread events  3 thread queue  4 log  5 commands  6 job
-- ARGV  1 prefix  2 group  3 job_id  4 thread_id  5 now  6 cancels channel
-- Returns  the job's status as the caller should see it, or '' when Redis does not know the job.
-- Atomic because a worker may begin, or end, the job at the same moment.

local closed = unverified(KEYS[1])
if closed then return closed end
local thread, events, queue, log, commands, job = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local job_id, thread_id, at = ARGV[3], ARGV[4], ARGV[5]

local j = redis.call('HMGET', job, 'status', 'reply')
local status = j[1]
if not status then return '' end
if status == 'running' then
  flag_cancel(job, job_id, ARGV[6])
  return status
end
if status ~= 'queued' then return status end

local position = redis.call('HINCRBY', thread, 'position', 1)
local done = unbegun_done(job_id, j[2], at)
local line = append(events, log, thread_id, position, job_id, 1, 'done', done)
redis.call('HSET', job, 'seq', 1)
mark_dirty(ARGV[1], thread, thread_id, position, at)
finish({prefix = ARGV[1], group = ARGV[2], thread = thread, queue = queue, commands = commands, job = job, position = position, by = 'cancel'},
  job_id, 'cancelled', at, done)
redis.call('SPUBLISH', thread, line)
return 'cancelled'
