#!lua
-- Sends what a dead letter holds back where it was taken from: to the workers, or to the persisters.
--
-- KEYS  1 dead  2 commands  3 log
-- ARGV  1 prefix  2 letter id
-- Returns  {'RETRIED', entry id}  its new entry
--          {'GONE'}  somebody retried or dropped it, or this very call did and its reply was lost
--          {'KEPT'}  it holds no entry: a job that is over (see accept_job), or nothing of ours
-- A job whose command it is, and which is not over, waits for the new entry from now on.
-- Atomic because an entry must be in its stream or dead, never both and never neither, whoever
-- else retries it at the same time.

local closed = unverified(KEYS[1])
if closed then return closed end
local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
if #found == 0 then return {'GONE'} end
local letter = found[1][2]  -- kind, reason, at, entry: then the entry's own fields
local stream = ({command = KEYS[2], event = KEYS[3]})[letter[2]]
if not stream or letter[7] ~= 'entry' or #letter < 10 then return {'KEPT'} end

local entry = redis.call('XADD', stream, '*', unpack(letter, 9))
for i = 9, #letter, 2 do
  if letter[2] == 'command' and letter[i] == 'j' then
    local job = job_key(ARGV[1], letter[i + 1])
    if redis.call('HGET', job, 'entry') == letter[8] then redis.call('HSET', job, 'entry', entry) end
  end
end
redis.call('XDEL', KEYS[1], ARGV[2])
return {'RETRIED', entry}
