#!lua flags=allow-oom
-- The persister tells how far the threads of a batch have come, and lets go what is archived.
--
-- KEYS  1 log (routes the call to the partition's slot)
-- ARGV  1 prefix  2 'processing' | 'archived'  3 idle TTL, seconds
--       4 archived events to keep in a thread's stream   5 number of threads n
--       then n × (thread_id, position), then the ids of jobs that are archived whole
-- `archived` may only be reported for a position behind which nothing is missing in the archive.
-- Returns  the number of threads Redis still knew.
-- Atomic per partition because expiry must be decided on the same look as the positions it rests on:
-- a thread gets a TTL only if every event it has is archived and none of its jobs is alive. The stream
-- of a thread in use is cut behind the archive, but never inside the job that runs.

local prefix, kind, ttl, keep = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local function advance(thread, thread_id, state, target)
  if moves(prefix, 'thread', thread_id, '', thread_id, state, target, 'persister') then
    redis.call('HSET', thread, 'state', target)
  end
end

-- Moves the messages that stand at or before this position; those that have arrived lose their line.
local function carry(thread, thread_id, moving, position)
  local kept, changed = {}, false
  for line in string.gmatch(moving, '[^\n]+') do
    local at, state, job, id = string.match(line, '^(%d+) (%u+) (%S+) (.*)$')
    local deleting, arrives = state == 'DELETING', kind == 'archived'
    local target = arrives and (deleting and 'DELETED' or 'SENT') or 'PROCESSING'
    if tonumber(at) <= position and moves(prefix, 'message', thread_id, job, id, state, target, 'persister') then
      changed = true
      if not arrives then kept[#kept + 1] = moving_line(at, target, job, id) end
    else
      kept[#kept + 1] = line
    end
  end
  if not changed then return end
  if #kept == 0 then redis.call('HDEL', thread, 'moving') else redis.call('HSET', thread, 'moving', table.concat(kept, '\n')) end
end

forget_steps(prefix)
local known = 0
local first_job = 6 + 2 * tonumber(ARGV[5])
for n = 6, first_job - 1, 2 do
  local thread_id, position = ARGV[n], tonumber(ARGV[n + 1])
  local thread = thread_key(prefix, thread_id)
  local t = redis.call('HMGET', thread, 'state', kind, 'position', 'changed', 'active', 'moving')
  if t[1] then
    known = known + 1
    if position > tonumber(t[2] or 0) then redis.call('HSET', thread, kind, position) end
    if t[6] then carry(thread, thread_id, t[6], position) end
    local deleting = t[1] == 'DELETING'
    if kind == 'processing' then
      if not deleting then advance(thread, thread_id, t[1], 'PROCESSING') end
    else
      local settled = position >= tonumber(t[4] or 0)
      if settled then
        for _, user in ipairs(listed_users(thread)) do redis.call('SREM', dirty_key(prefix, user), thread_id) end
        redis.call('HDEL', thread, 'left')
        advance(thread, thread_id, t[1], deleting and 'DELETED' or 'ACTIVE')
      elseif not deleting then
        advance(thread, thread_id, t[1], 'ACTIVE')
      end
      local events, cut = events_key(thread), position - keep
      if t[5] then
        cut = math.min(cut, tonumber(redis.call('HGET', job_key(prefix, t[5]), 'first') or 0))
      elseif position >= tonumber(t[3]) then
        redis.call('EXPIRE', thread, ttl)
        redis.call('EXPIRE', events, ttl)
      end
      if cut > 0 then redis.call('XTRIM', events, 'MINID', '~', cut .. '-0') end
    end
  end
end
for n = first_job, #ARGV do redis.call('EXPIRE', job_key(prefix, ARGV[n]), ttl) end
return known
