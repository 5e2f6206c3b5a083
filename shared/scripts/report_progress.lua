#!lua flags=allow-oom
-- The persister tells how far the threads of a batch have come, and lets go what is archived.
--
-- KEYS  1 log (routes the call to the partition's slot)
-- ARGV  1 prefix  2 'processing' | 'archived'  3 idle TTL, seconds
--       4 the chain of thread states, comma-separated
--       5 archived events to keep in a thread's stream   6 number of threads n
--       then n × (thread_id, position), then the ids of jobs that are archived whole
-- `archived` may only be reported for a position behind which nothing is missing in the archive.
-- Returns  the number of threads Redis still knew.
-- Atomic per partition because expiry must be decided on the same look as the positions it rests on:
-- a thread gets a TTL only if every event it has is archived and none of its jobs is alive. The stream
-- of a thread in use is cut behind the archive, but never inside the job that runs.

local prefix, kind, ttl, keep = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])
local rank, i = {}, 0
for state in string.gmatch(ARGV[4], '[^,]+') do i = i + 1; rank[state] = i end

local function advance(thread, state, target)
  if rank[target] > rank[state] then redis.call('HSET', thread, 'state', target) end
end

local known = 0
local first_job = 7 + 2 * tonumber(ARGV[6])
for n = 7, first_job - 1, 2 do
  local thread_id, position = ARGV[n], tonumber(ARGV[n + 1])
  local thread = thread_key(prefix, thread_id)
  local t = redis.call('HMGET', thread, 'state', kind, 'position', 'changed', 'active')
  if t[1] then
    known = known + 1
    if position > tonumber(t[2] or 0) then redis.call('HSET', thread, kind, position) end
    local deleting = t[1] == 'DELETING'
    if kind == 'processing' then
      if not deleting then advance(thread, t[1], 'PROCESSING') end
    else
      local settled = position >= tonumber(t[4] or 0)
      if settled then
        for _, user in ipairs(listed_users(thread)) do redis.call('SREM', dirty_key(prefix, user), thread_id) end
        redis.call('HDEL', thread, 'left')
        advance(thread, t[1], deleting and 'DELETED' or 'ACTIVE')
      elseif not deleting then
        advance(thread, t[1], 'ACTIVE')
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
