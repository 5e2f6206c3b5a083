-- What several scripts share. Python puts it in front of each of them (shared/redis_scripts.py).
-- Keys that a script meets by name (the next job of a thread, the owner's dirty set) are built here
-- from the partition's prefix; they carry its hash tag, so they live in the slot of the declared ones.
-- RANKS, TRANSITIONS_SECONDS and TRANSITIONS_MAX are Python's (shared/states.py): one table for all.

local function job_key(prefix, job_id) return prefix .. ':job:' .. job_id end
local function thread_key(prefix, thread_id) return prefix .. ':thread:' .. thread_id end
local function events_key(thread) return thread .. ':events' end
local function dirty_key(prefix, user) return prefix .. ':dirty:' .. user end
local function meta_key(key) return string.match(key, '^{[^}]*}') .. ':meta' end
local function dead_key(prefix) return prefix .. ':dead' end
local function transitions_key(prefix) return prefix .. ':transitions' end

-- Notes a step of a job, message or thread. `job` is given with messages, else ''.
local function record(prefix, thread_id, job, id, from, to, by)
  redis.call('XADD', transitions_key(prefix), 'MAXLEN', '~', TRANSITIONS_MAX, '*',
    'h', thread_id, 'j', job, 'i', id, 'f', from, 't', to, 'by', by)
end

-- Forgets the steps of another day.
local function forget_steps(prefix)
  local oldest = redis.call('TIME')[1] - TRANSITIONS_SECONDS
  redis.call('XTRIM', transitions_key(prefix), 'MINID', '~', oldest * 1000)
end

-- Whether a thing of this kind may go from one state to the other, which is noted then: only onward.
local function moves(prefix, kind, thread_id, job, id, from, to, by)
  if (RANKS[kind][from] or -1) >= RANKS[kind][to] then return false end
  record(prefix, thread_id, job, id, from or '', to, by)
  return true
end

-- Messages that the persister has not committed stand in their thread's hash, a line each:
-- position, state, job, message. What is committed needs no line: its state is its position's.
local function with_line(lines, line) return lines and lines ~= '' and lines .. '\n' .. line or line end
local function moving_line(position, state, job, id) return position .. ' ' .. state .. ' ' .. job .. ' ' .. id end

-- A message is said, at this position of the log: the lines with its own.
local function said(prefix, thread_id, lines, position, job, id, by)
  record(prefix, thread_id, job, id, 'COMPOSING', 'PENDING', by)
  return with_line(lines, moving_line(position, 'PENDING', job, id))
end

-- A message is to be deleted, by an event at this position.
local function unsay(prefix, thread, thread_id, position, job, id, by)
  local kept, state = {}, 'SENT'
  for line in string.gmatch(redis.call('HGET', thread, 'moving') or '', '[^\n]+') do
    local was, whose = string.match(line, '^%d+ (%u+) %S+ (.*)$')
    if whose == id then state = was else kept[#kept + 1] = line end
  end
  if not moves(prefix, 'message', thread_id, job, id, state, 'DELETING', by) then return end
  kept[#kept + 1] = moving_line(position, 'DELETING', job, id)
  redis.call('HSET', thread, 'moving', table.concat(kept, '\n'))
end

-- Adds one event to the thread's stream and to the log. Returns its line for the channel.
local function append(events, log, thread_id, position, stream, seq, kind, data)
  redis.call('XADD', events, position .. '-0', 'j', stream, 's', seq, 't', kind, 'd', data)
  redis.call('XADD', log, '*', 'h', thread_id, 'p', position, 'j', stream, 's', seq, 't', kind, 'd', data)
  return position .. ' ' .. stream .. ' ' .. seq .. ' ' .. kind .. ' ' .. data
end

-- Users are kept as lines of one text: no user's name holds a newline.
local function has_line(lines, line)
  return string.find('\n' .. (lines or '') .. '\n', '\n' .. line .. '\n', 1, true) ~= nil
end
local function without_line(lines, line)
  local kept = {}
  for each in string.gmatch(lines, '[^\n]+') do
    if each ~= line then kept[#kept + 1] = each end
  end
  return table.concat(kept, '\n')
end

-- The users in whose lists a thread stands, and those who have left since these were archived.
local function listed_users(thread)
  local users, t = {}, redis.call('HMGET', thread, 'owner', 'participants', 'left')
  for _, lines in ipairs({t[1] or '', t[2] or '', t[3] or ''}) do
    for user in string.gmatch(lines, '[^\n]+') do users[#users + 1] = user end
  end
  return users
end

-- The thread's row has changed at `position`: no list must be served without it.
local function mark_dirty(prefix, thread, thread_id, position, at)
  redis.call('HSET', thread, 'changed', position)
  if at > (redis.call('HGET', thread, 'updated_at') or '') then  -- of several clocks, as Postgres does
    redis.call('HSET', thread, 'updated_at', at)
  end
  for _, user in ipairs(listed_users(thread)) do redis.call('SADD', dirty_key(prefix, user), thread_id) end
end

-- Flags a running job and wakes its worker.
local function flag_cancel(job, job_id, cancels)
  redis.call('HSET', job, 'cancel', '1')
  redis.call('SPUBLISH', cancels, '{"type":"CancelJob","v":1,"job_id":"' .. job_id .. '"}')
end

-- The whole life of a job that nobody began: one event.
local function unbegun_done(job_id, reply_id, at)
  return '{"type":"done","job_id":"' .. job_id .. '","seq":1,"attempt":0,"v":1,"at":"' .. at ..
    '","status":"cancelled","content":"","message_id":"' .. reply_id ..
    '","finish_reason":null,"usage":null,"latency_ms":0}'
end

-- Hands a job to the orchestrators.
local function start(commands, thread, job, job_id, command)
  local entry = redis.call('XADD', commands, '*', 'j', job_id, 'd', command)
  redis.call('HSET', job, 'entry', entry)
  redis.call('HSET', thread, 'active', job_id)
end

-- Ends a job: its final facts, its command acknowledged and gone, the thread's next job started.
-- `position` is that of its `done`. What is over stays as it is, unless it is being `restored`.
local function finish(k, job_id, status, at, done)
  local j = redis.call('HMGET', k.job, 'entry', 'status', 'reply', 'worker')
  local entry, thread_id, by = j[1], string.match(k.thread, ':thread:(.*)$'), k.by or j[4] or ''
  if not k.restored then
    if not moves(k.prefix, 'job', thread_id, '', job_id, j[2], status, by) then return end
    local moving = redis.call('HGET', k.thread, 'moving')
    redis.call('HSET', k.thread, 'moving', said(k.prefix, thread_id, moving, k.position, job_id, j[3], by))
  end
  redis.call('HSET', k.job, 'status', status, 'finished_at', at, 'done', done)
  redis.call('HDEL', k.job, 'cancel', 'command')
  if entry then
    redis.call('XACK', k.commands, k.group, entry)
    redis.call('XDEL', k.commands, entry)
  end
  if redis.call('HGET', k.thread, 'active') ~= job_id then
    redis.call('LREM', k.queue, 0, job_id)
    return
  end
  redis.call('HDEL', k.thread, 'active')
  local next_id = redis.call('LPOP', k.queue)
  if next_id then
    local next_job = job_key(k.prefix, next_id)
    start(k.commands, k.thread, next_job, next_id, redis.call('HGET', next_job, 'command'))
    redis.call('HDEL', next_job, 'command')
  end
end

-- An error while the partition may know less than the archive does (shared/continuity.py), else nil.
local function unverified(key)
  if redis.call('HGET', meta_key(key), 'verified') == '1' then return nil end
  return redis.error_reply('UNVERIFIED what Redis lost is not yet restored from the archive')
end
