#!lua
-- Makes an empty thread.
--
-- KEYS  1 thread  2 thread events  3 log
-- ARGV  1 control, JSON: prefix user thread_id at title agent metadata
--       2 thread.created
-- Returns  {'CREATED', created_at}
-- Atomic because the thread's hash and its first event must appear together. Sent twice, it answers
-- the same and does nothing: the id of the thread is the caller's.

local closed = unverified(KEYS[1])
if closed then return closed end
local a = cjson.decode(ARGV[1])
local thread = KEYS[1]

local created_at = redis.call('HGET', thread, 'created_at')
if created_at then return {'CREATED', created_at} end

moves(a.prefix, 'thread', a.thread_id, '', a.thread_id, 'CREATING', 'PENDING', a.user)
redis.call('HSET', thread, 'owner', a.user, 'state', 'PENDING', 'status', 'active', 'position', 1, 'seq', 1,
  'created_at', a.at, 'title', a.title, 'agent', a.agent, 'metadata', a.metadata, 'participants', '')
mark_dirty(a.prefix, thread, a.thread_id, 1, a.at)
local line = append(KEYS[2], KEYS[3], a.thread_id, 1, a.thread_id, 1, 'thread.created', ARGV[2])
redis.call('SPUBLISH', thread, line)
return {'CREATED', a.at}
