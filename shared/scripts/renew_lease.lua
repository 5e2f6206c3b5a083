#!lua flags=allow-oom
-- Keeps the right to run a job for another lease.
--
-- KEYS  1 commands  2 job
-- ARGV  1 group  2 consumer  3 attempt  4 owner token
-- Returns  {'KEPT' | 'LOST' | 'REWOUND', cancel}, cancel being 1 when the job is to be cancelled.
--          REWOUND: Redis has lost this attempt's beginning; resume_attempt may give it back.
-- Atomic because a plain XCLAIM obeys anybody: a superseded worker would take the job back.
-- FORCE brings a pending entry back that a recreated group has forgotten; the job's hash says that
-- it is the caller's.

local j = redis.call('HMGET', KEYS[2], 'attempt', 'owner_token', 'status', 'entry', 'cancel')
local attempt, mine = tonumber(j[1] or 0), tonumber(ARGV[3])
if not j[1] or attempt < mine or (attempt == mine and j[2] == '') then return {'REWOUND', 0} end
if attempt ~= mine or j[2] ~= ARGV[4] or j[3] ~= 'running' then return {'LOST', 0} end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, j[4], 'FORCE', 'JUSTID')
return {'KEPT', j[5] and 1 or 0}
