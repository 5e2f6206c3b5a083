#!lua
-- Makes the caller the owner of a job and begins its next attempt.
--
-- KEYS  1 thread  2 thread events  3 log  4 commands  5 job
-- ARGV  1 group  2 consumer  3 command entry id  4 owner token (new for every call)  5 attempts_max
--       6 job_id  7 thread_id  8 now  9 the rest of `started`: its JSON from the comma after attempt
-- Returns  {'BEGUN', attempt, seq, first, handovers, ''}        run it; `started` is appended
--          {'CANCELLED' | 'EXHAUSTED', attempt, seq, first, handovers, started_at}   owned: append
--                       its end
--          {'ENDED'}    it is over; the entry was acknowledged
--          {'LOST'}     the entry belongs to another consumer
--          {'UNKNOWN'}  Redis does not know the job
-- `first` is the position of the job's message: the events of the job stand behind it. Attempts that
-- ended in a hand-over (`handovers`) do not count against attempts_max.
-- Atomic because the attempt number is the fence: whoever reads it must already be the owner, and
-- `started` must precede every event of the new owner.

local closed = unverified(KEYS[1])
if closed then return closed end
local thread, events, log, commands, job = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, consumer, entry, owner = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local job_id, thread_id = ARGV[6], ARGV[7]

local j = redis.call('HMGET', job, 'status', 'attempt', 'seq', 'first', 'cancel', 'entry', 'begun_by', 'started_at', 'owner_token', 'handovers', 'reply')
local status = j[1]
if not status then return {'UNKNOWN'} end
if (status ~= 'queued' and status ~= 'running') or j[6] ~= entry then
  redis.call('XACK', commands, group, entry)
  redis.call('XDEL', commands, entry)
  return {'ENDED'}
end
local attempt, seq, first = tonumber(j[2]), tonumber(j[3]), tonumber(j[4])
local handovers = tonumber(j[10] or 0)
if j[7] == owner then  -- sent again: it had begun, and may have been taken over since
  if j[9] ~= owner then return {'LOST'} end
  return {'BEGUN', attempt, seq, first, handovers, ''}
end

local pending = redis.call('XPENDING', commands, group, entry, entry, 1)
if #pending == 0 or pending[1][2] ~= consumer then return {'LOST'} end

redis.call('HSET', job, 'owner_token', owner)
if j[5] then return {'CANCELLED', attempt, seq, first, handovers, j[8] or ''} end
if attempt - handovers >= tonumber(ARGV[5]) then
  return {'EXHAUSTED', attempt, seq, first, handovers, j[8] or ''}
end

attempt, seq = attempt + 1, seq + 1
local position = redis.call('HINCRBY', thread, 'position', 1)
local data = '{"type":"started","job_id":"' .. job_id .. '","seq":' .. seq .. ',"attempt":' .. attempt .. ARGV[9]
local line = append(events, log, thread_id, position, job_id, seq, 'started', data)
local prefix = string.match(commands, '^{[^}]*}')
if not moves(prefix, 'job', thread_id, '', job_id, status, 'running', consumer) then
  record(prefix, thread_id, '', job_id, 'running', 'running', consumer)  -- another attempt
else
  record(prefix, thread_id, job_id, j[11], '', 'COMPOSING', consumer)
end
redis.call('HSET', job, 'status', 'running', 'attempt', attempt, 'seq', seq, 'begun_by', owner, 'worker', consumer)
redis.call('HSETNX', job, 'started_at', ARGV[8])
redis.call('SPUBLISH', thread, line)
return {'BEGUN', attempt, seq, first, handovers, ''}
