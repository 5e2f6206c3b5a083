#!lua
-- Keeps who is in a thread, and tells its channel which users came and went.
--
-- KEYS  1 the present: sorted set of members by the end of their leases  2 the thread, its channel
-- ARGV  1 milliseconds of a lease  2 milliseconds that one who leaves is still taken for there
--       3 number of members that are here n, then n members, then members that leave
--       a member is JSON: [user, session, socket]
-- Returns  the members that are there now.
-- Atomic because a user comes with their first device and goes with the last one, on whatever gateway,
-- and each must be told once. Members whose lease has run out go with any call: those of a gateway that
-- was killed too. Sent twice, it does nothing the second time.

local present, channel = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function users_of(members)
  local found = {}
  for _, member in ipairs(members) do found[cjson.decode(member)[1]] = true end
  return found
end
local function tell(event, users, others)
  for user in pairs(users) do
    if not others[user] then
      redis.call('SPUBLISH', channel, '~- {"type":"system","event":"' .. event .. '","user":' .. cjson.encode(user) .. '}')
    end
  end
end

local before = users_of(redis.call('ZRANGE', present, 0, -1))
redis.call('ZREMRANGEBYSCORE', present, '-inf', now)
local leaving = 4 + tonumber(ARGV[3])
for i = 4, leaving - 1 do redis.call('ZADD', present, now + tonumber(ARGV[1]), ARGV[i]) end
for i = leaving, #ARGV do redis.call('ZADD', present, 'XX', now + tonumber(ARGV[2]), ARGV[i]) end
local members = redis.call('ZRANGE', present, 0, -1)
local after = users_of(members)
tell('user_joined', after, before)
tell('user_left', before, after)
if leaving > 4 then redis.call('PEXPIRE', present, ARGV[1]) end
return members
