#!lua flags=allow-oom
-- Cuts a stream behind its slowest group, never ahead of it.
--
-- KEYS  1 stream
-- ARGV  1 entries to keep in any case
-- Returns  the number of entries removed.
-- Atomic because an entry may be claimed or delivered between the look and the cut.

local function less(a, b)
  local ams, aseq = string.match(a, '(%d+)-(%d+)')
  local bms, bseq = string.match(b, '(%d+)-(%d+)')
  if tonumber(ams) ~= tonumber(bms) then return tonumber(ams) < tonumber(bms) end
  return tonumber(aseq) < tonumber(bseq)
end

if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
if #groups == 0 or redis.call('XLEN', KEYS[1]) <= tonumber(ARGV[1]) then return 0 end
local keep_from
for _, group in ipairs(groups) do
  local info = {}
  for n = 1, #group, 2 do info[group[n]] = group[n + 1] end
  local pending = redis.call('XPENDING', KEYS[1], info['name'])
  local oldest = pending[1] > 0 and pending[2] or info['last-delivered-id']
  if not keep_from or less(oldest, keep_from) then keep_from = oldest end
end
return redis.call('XTRIM', KEYS[1], 'MINID', keep_from)
