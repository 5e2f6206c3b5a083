#!lua
-- Appends a thread event that a user causes, and makes the thread's hash agree.
--
-- Renames, archives, re-labels or deletes a thread; lets users in and out; notes what they have read;
-- deletes a message.
--
-- KEYS  1 thread  2 thread events  3 thread queue  4 log  5 commands
-- ARGV  1 control, JSON: prefix group user thread_id at cancels request_id type set (fields → values)
--         unless_named (what has a title is not changed)
--         [member participants_max: of participant.joined, participant.left]  [upto: of thread.read]
--         [job_id: of message.deleted]
--       2 the event
-- Returns  {'CHANGED'} also when there was nothing to change
--          {'NO_THREAD'} not in Redis: load it and call again   {'NO_ACCESS'}
--          {'NOT_OWNER'} only the owner may   {'OWNER_STAYS'}   {'CROWDED'}
-- Who may delete a message is the caller's to know: that never changes.
-- Atomic because the hash and the event must agree, and a deletion ends jobs, the thread's or the
-- message's: those that wait get their `done` here, the one that runs is flagged. The last REQUESTS ids of calls are
-- kept, so that a call sent again is harmless even behind others.

local closed = unverified(KEYS[1])
if closed then return closed end
local REQUESTS = 8
local a = cjson.decode(ARGV[1])
local thread, events, queue, log, commands = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

local t = redis.call('HMGET', thread, 'owner', 'state', 'position', 'seq', 'active', 'requests', 'participants', 'left', 'title')
if not t[1] then return {'NO_THREAD'} end
local requests, owner, participants = t[6] or '', t[1], t[7] or ''
if string.find(requests, a.request_id, 1, true) then return {'CHANGED'} end
local is_owner = owner == a.user
local is_stranger = not is_owner and not has_line(participants, a.user)
if is_stranger or t[2] == 'DELETING' or t[2] == 'DELETED' then return {'NO_ACCESS'} end
local is_free = a.type == 'thread.read' or a.type == 'message.deleted' or (a.type == 'participant.left' and a.member == a.user)
if not is_owner and not is_free then return {'NOT_OWNER'} end

if a.unless_named and (t[9] or '') ~= '' then return {'CHANGED'} end

local position, seq, lines = tonumber(t[3]), tonumber(t[4]), {}
local function end_waiting(job_id)
  local job = job_key(a.prefix, job_id)
  local done = unbegun_done(job_id, redis.call('HGET', job, 'reply'), a.at)
  position = position + 1
  lines[#lines + 1] = append(events, log, a.thread_id, position, job_id, 1, 'done', done)
  redis.call('HSET', job, 'seq', 1)
  finish({prefix = a.prefix, group = a.group, thread = thread, queue = queue, commands = commands, job = job, position = position, by = a.user},
    job_id, 'cancelled', a.at, done)
end
for field, value in pairs(a.set) do redis.call('HSET', thread, field, value) end
if a.type == 'participant.joined' then
  if a.member == owner or has_line(participants, a.member) then return {'CHANGED'} end
  local _, others = string.gsub(participants, '[^\n]+', '')
  if others >= a.participants_max then return {'CROWDED'} end
  redis.call('HSET', thread, 'participants', with_line(participants, a.member), 'read:' .. a.member, position + 1)
elseif a.type == 'participant.left' then
  if a.member == owner then return {'OWNER_STAYS'} end
  if not has_line(participants, a.member) then return {'CHANGED'} end
  redis.call('HSET', thread, 'participants', without_line(participants, a.member),
    'left', with_line(without_line(t[8] or '', a.member), a.member))
  redis.call('HDEL', thread, 'read:' .. a.member)
elseif a.type == 'thread.read' then
  local mark = 'read:' .. a.user
  if a.upto <= tonumber(redis.call('HGET', thread, mark) or 0) then return {'CHANGED'} end
  redis.call('HSET', thread, mark, a.upto)
elseif a.type == 'thread.deleted' then
  if moves(a.prefix, 'thread', a.thread_id, '', a.thread_id, t[2], 'DELETING', a.user) then
    redis.call('HSET', thread, 'state', 'DELETING')
  end
  for _, job_id in ipairs(redis.call('LRANGE', queue, 0, -1)) do end_waiting(job_id) end
  if t[5] then flag_cancel(job_key(a.prefix, t[5]), t[5], a.cancels) end
elseif a.type == 'message.deleted' then
  local job = job_key(a.prefix, a.job_id)
  local status = redis.call('HGET', job, 'status')
  if status == 'queued' then end_waiting(a.job_id) end
  if status == 'running' then flag_cancel(job, a.job_id, a.cancels) end
end
position, seq = position + 1, seq + 1
lines[#lines + 1] = append(events, log, a.thread_id, position, a.thread_id, seq, a.type, ARGV[2])
if a.type == 'message.deleted' then
  unsay(a.prefix, thread, a.thread_id, position, a.job_id, cjson.decode(ARGV[2]).message_id, a.user)
end
redis.call('HSET', thread, 'position', position, 'seq', seq, 'requests',
  string.sub(a.request_id .. requests, 1, REQUESTS * #a.request_id))
-- Who reads or tidies up does not move a thread to the front; a job that ended does.
local is_quiet = #lines == 1 and (a.type == 'thread.read' or a.type == 'message.deleted')
mark_dirty(a.prefix, thread, a.thread_id, position, is_quiet and '' or a.at)
redis.call('PERSIST', thread)
redis.call('PERSIST', events)
redis.call('SPUBLISH', thread, table.concat(lines, '\n'))
return {'CHANGED'}
