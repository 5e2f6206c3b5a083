#!lua flags=allow-oom
-- Takes one request out of what a user or an address may spend (GCRA: a bucket that fills steadily).
--
-- KEYS  1 the bucket: when it will be full again, in microseconds since 1970
-- ARGV  1 requests it holds when full   2 milliseconds in which it fills
-- Returns  {1 when it is spent, else 0; requests left; milliseconds until the bucket is full;
--           milliseconds until there is one again, 0 when it was spent}
-- Atomic because two gateways that look and then take would both take the last one. The server's
-- clock is the only one that counts. Sent twice, it takes two: a lost reply costs its user one.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local holds = tonumber(ARGV[1])
local each = math.floor(tonumber(ARGV[2]) * 1000 / holds)  -- whole: sums of fractions would drift
local depth = each * holds

local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
full = math.min(full, now + depth)  -- a clock that was set back must not lock anybody out
local after = full + each
local missing = after - now - depth
if missing > 0 then
  return {0, 0, math.ceil((full - now) / 1000), math.ceil(missing / 1000)}
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {1, math.floor((now + depth - after) / each), math.ceil((after - now) / 1000), 0}
