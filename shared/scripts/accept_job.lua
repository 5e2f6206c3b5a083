#!lua
-- Takes a message: the thread learns of it and a job waits for a worker.
--
-- KEYS  1 thread  2 thread events  3 thread queue  4 log  5 commands  6 job
-- ARGV  1 control, JSON: prefix user owner_ok thread_id job_id message_id reply_id agent trace_id
--         on_busy queue_max at cancels title metadata
--         room: whether its user may have another job in flight
--         [letter: a dead letter that leaves with it]
--       2 message.posted  3 RunJob  4 thread.created, or '' when the thread must exist
-- Returns  {'ACCEPTED', job_id, message_id, thread_id, trace_id, position of the message}, which a
--          repeat is answered without
--          {'NO_THREAD'} not in Redis: load it and call again   {'NO_ACCESS'}
--          {'BUSY', job_id}   {'FULL'}   {'NO_ROOM'}   {'GONE'} the letter was
-- Atomic because a job without its message, a message without its job, or two active jobs in one
-- thread could never be put right afterwards. Sent twice, it answers the same and does nothing.

local closed = unverified(KEYS[1])
if closed then return closed end
local a = cjson.decode(ARGV[1])
local thread, events, queue, log, commands, job = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]

if redis.call('EXISTS', job) == 1 then
  return {'ACCEPTED', a.job_id, a.message_id, a.thread_id, a.trace_id}
end
if not a.room then return {'NO_ROOM'} end  -- a repeat adds no job, and is answered all the same
local t = redis.call('HMGET', thread, 'owner', 'state', 'position', 'seq', 'active', 'participants', 'moving')
local owner, state, active = t[1], t[2], t[5]
local position, seq = tonumber(t[3] or 0), tonumber(t[4] or 0)
if not owner and ARGV[4] == '' then return {'NO_THREAD'} end
local is_stranger = owner ~= a.user and not has_line(t[6], a.user)
if owner and (is_stranger or state == 'DELETING' or state == 'DELETED') then return {'NO_ACCESS'} end
if active then
  if a.on_busy == 'reject' then return {'BUSY', active} end
  if redis.call('LLEN', queue) >= a.queue_max then return {'FULL'} end
end
if a.letter and redis.call('XDEL', dead_key(a.prefix), a.letter) == 0 then return {'GONE'} end

local lines = {}
if not owner then
  owner = a.user
  position, seq = position + 1, seq + 1
  moves(a.prefix, 'thread', a.thread_id, '', a.thread_id, 'CREATING', 'PENDING', a.user)
  redis.call('HSET', thread, 'owner', owner, 'state', 'PENDING', 'status', 'active', 'created_at', a.at,
    'title', a.title, 'agent', a.agent, 'metadata', a.metadata, 'participants', '')
  lines[1] = append(events, log, a.thread_id, position, a.thread_id, seq, 'thread.created', ARGV[4])
end
position, seq = position + 1, seq + 1
lines[#lines + 1] = append(events, log, a.thread_id, position, a.thread_id, seq, 'message.posted', ARGV[2])
redis.call('HSET', thread, 'position', position, 'seq', seq,
  'moving', said(a.prefix, a.thread_id, t[7], position, a.job_id, a.message_id, a.user))
mark_dirty(a.prefix, thread, a.thread_id, position, a.at)
redis.call('PERSIST', thread)
redis.call('PERSIST', events)

record(a.prefix, a.thread_id, '', a.job_id, '', 'queued', a.user)
redis.call('HSET', job, 'thread', a.thread_id, 'owner', a.user, 'status', 'queued', 'attempt', 0, 'seq', 0,
  'first', position, 'reply', a.reply_id, 'agent', a.agent, 'trace', a.trace_id, 'created_at', a.at)
if not active then
  start(commands, thread, job, a.job_id, ARGV[3])
else
  redis.call('HSET', job, 'command', ARGV[3])
  if a.on_busy == 'interrupt' then
    redis.call('LPUSH', queue, a.job_id)
    flag_cancel(job_key(a.prefix, active), active, a.cancels)
  else
    redis.call('RPUSH', queue, a.job_id)
  end
end
redis.call('SPUBLISH', thread, table.concat(lines, '\n'))
return {'ACCEPTED', a.job_id, a.message_id, a.thread_id, a.trace_id, position}
