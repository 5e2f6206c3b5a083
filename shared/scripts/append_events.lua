#!lua
-- Appends events of a running job: all of them, or none.
--
-- KEYS  1 thread  2 thread events  3 thread queue  4 log  5 commands  6 job  7 dead
-- ARGV  1 prefix  2 group  3 job_id  4 thread_id  5 attempt  6 owner token  7 now
--       8 final status, '' unless the last event is `done`   9 dead-letter reason, or ''
--       10… seq, type, data of each event, seq rising by one
-- Returns  {code, last_seq, cancel}, cancel being 1 when the job is to be cancelled:
--          OK         appended
--          DUPLICATE  every event was there before: the reply was lost (success)
--          GAP        Redis has lost events of this attempt: send again from last_seq + 1
--          FENCED     the caller has been superseded, or the job is over
--          UNKNOWN    Redis does not know the job
-- Events that are there already are skipped, so a call may be sent again with more behind them.
-- Atomic because the two streams, the channel, the counters and, with `done`, the acknowledgement
-- and the thread's next job must not be seen apart.

local closed = unverified(KEYS[1])
if closed then return closed end
local thread, events, queue, log, commands, job = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local job_id, thread_id = ARGV[3], ARGV[4]

local j = redis.call('HMGET', job, 'attempt', 'owner_token', 'seq', 'status', 'cancel')
if not j[1] then return {'UNKNOWN', 0, 0} end
if #ARGV < 12 then return redis.error_reply('ERR append_events needs at least one event') end
local last, cancel = tonumber(j[3]), j[5] and 1 or 0
if j[1] ~= ARGV[5] or j[2] ~= ARGV[6] then return {'FENCED', last, cancel} end
if tonumber(ARGV[#ARGV - 2]) <= last then return {'DUPLICATE', last, cancel} end
if j[4] ~= 'queued' and j[4] ~= 'running' then return {'FENCED', last, cancel} end
if tonumber(ARGV[10]) > last + 1 then return {'GAP', last, cancel} end

local position = tonumber(redis.call('HGET', thread, 'position') or 0)
local lines = {}
for i = 10, #ARGV, 3 do
  local seq = tonumber(ARGV[i])
  if seq > last then
    position, last = position + 1, seq
    lines[#lines + 1] = append(events, log, thread_id, position, job_id, ARGV[i], ARGV[i + 1], ARGV[i + 2])
  end
end
redis.call('HSET', thread, 'position', position)
redis.call('HSET', job, 'seq', last)

if ARGV[8] ~= '' then
  if ARGV[9] ~= '' then
    redis.call('XADD', KEYS[7], '*', 'kind', 'job', 'j', job_id, 'h', thread_id, 'reason', ARGV[9], 'at', ARGV[7])
  end
  mark_dirty(ARGV[1], thread, thread_id, position, ARGV[7])
  finish({prefix = ARGV[1], group = ARGV[2], thread = thread, queue = queue, commands = commands, job = job, position = position},
    job_id, ARGV[8], ARGV[7], ARGV[#ARGV])
end
redis.call('SPUBLISH', thread, table.concat(lines, '\n'))
return {'OK', last, cancel}
