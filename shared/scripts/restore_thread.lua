#!lua flags=allow-oom
-- Puts back what the archive knows of a thread and Redis does not: events, jobs, commands.
--
-- KEYS  1 thread  2 thread events  3 thread queue  4 log (routes)  5 commands
-- ARGV  1 control, JSON: prefix group life thread_id thread (fields → values)
--         jobs, by first position: [{job_id, facts (fields → values), done, command,
--         is_unwanted}]
--       2… position, stream, seq, type, data of archived events, positions rising by one
-- Returns  {events put back, jobs put back}
--          {'OVER'} the life in which that was decided: Redis has lost more since
-- Atomic because it decides on what Redis knows at this moment: events at positions it has are skipped,
-- a job is only moved onward, and an unfinished one gets a command unless it has one. Sent twice, it
-- does nothing the second time. It does not append to the log: the persister has these events.
-- The right of an attempt that Redis had forgotten is open ('') to the worker that can prove its own
-- (resume_attempt); a reclaimer may begin the next one instead.

local a = cjson.decode(ARGV[1])
local thread, events, queue, commands = KEYS[1], KEYS[2], KEYS[3], KEYS[5]

if redis.call('HGET', meta_key(thread), 'life') ~= a.life then return {'OVER'} end
local position = tonumber(redis.call('HGET', thread, 'position') or a.thread.position)
local before = position
for i = 2, #ARGV, 5 do
  if tonumber(ARGV[i]) == position + 1 then
    position = position + 1
    redis.call('XADD', events, position .. '-0', 'j', ARGV[i + 1], 's', ARGV[i + 2], 't', ARGV[i + 3], 'd', ARGV[i + 4])
  end
end
if redis.call('EXISTS', thread) == 0 or position > before then
  for field, value in pairs(a.thread) do redis.call('HSET', thread, field, value) end
  redis.call('HSET', thread, 'position', position)
end

local jobs = 0
local k = {prefix = a.prefix, group = a.group, thread = thread, queue = queue, commands = commands, restored = true}
for _, j in ipairs(a.jobs) do
  k.job = job_key(a.prefix, j.job_id)
  local known = redis.call('HMGET', k.job, 'status', 'seq', 'attempt', 'entry')
  local status, behind = known[1], not known[1] or tonumber(known[2]) < j.facts.seq
  if behind then
    jobs = jobs + 1
    if not status or tonumber(known[3]) < j.facts.attempt then redis.call('HSET', k.job, 'owner_token', '') end
    j.facts.attempt = math.max(j.facts.attempt, tonumber(known[3] or 0))  -- its beginning may not be archived
    moves(a.prefix, 'job', a.thread_id, '', j.job_id, status, j.facts.status, 'restored')
    for field, value in pairs(j.facts) do redis.call('HSET', k.job, field, value) end
    if j.done then finish(k, j.job_id, j.facts.status, j.facts.finished_at, j.done) end
    status = j.facts.status
  end
  if status == 'queued' or status == 'running' then
    local waits = redis.call('LPOS', queue, j.job_id)
    local active = redis.call('HGET', thread, 'active')
    local entry = redis.call('HGET', k.job, 'entry')
    if active == j.job_id or not (active or waits) then
      if not entry or #redis.call('XRANGE', commands, entry, entry) == 0 then
        start(commands, thread, k.job, j.job_id, j.command)
        if not behind then jobs = jobs + 1 end
      end
    else
      redis.call('HSETNX', k.job, 'command', j.command)
      if not waits then redis.call('RPUSH', queue, j.job_id) end
    end
    if a.thread.state == 'DELETED' or j.is_unwanted then redis.call('HSET', k.job, 'cancel', '1') end  -- as a deletion did
    redis.call('PERSIST', thread)
    redis.call('PERSIST', events)
  end
end
return {position - before, jobs}
