#!lua flags=allow-oom
-- Gives up on an entry of a stream: it moves to the dead-letter stream, with the reason.
--
-- KEYS  1 stream  2 dead
-- ARGV  1 group  2 entry id  3 kind  4 reason  5 now
-- Returns  1 when it was moved, 0 when it was acknowledged before.
-- Atomic because an entry must be pending or dead, never both and never neither.

if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
if #found == 0 then return 0 end
local fields = {'kind', ARGV[3], 'reason', ARGV[4], 'at', ARGV[5], 'entry', ARGV[2]}
for _, part in ipairs(found[1][2]) do fields[#fields + 1] = part end
redis.call('XADD', KEYS[2], '*', unpack(fields))
redis.call('XDEL', KEYS[1], ARGV[2])
return 1
