#!lua
-- Keeps what a request is going to make under its Idempotency-Key, before it is made.
--
-- KEYS  1 the key's record
-- ARGV  1 fingerprint of the request  2 its plan  3 seconds to remember it
-- Returns  {'PLAN', plan} of the first request with this key   {'MISMATCH'} that was another request
-- Atomic because of many requests with one key all must follow one plan. Sent twice, it answers the same.

local closed = unverified(KEYS[1])
if closed then return closed end
local seen = redis.call('HMGET', KEYS[1], 'fingerprint', 'plan')
if not seen[1] then
  redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'plan', ARGV[2])
  redis.call('EXPIRE', KEYS[1], ARGV[3])
  return {'PLAN', ARGV[2]}
end
if seen[1] ~= ARGV[1] then return {'MISMATCH'} end
return {'PLAN', seen[2]}
