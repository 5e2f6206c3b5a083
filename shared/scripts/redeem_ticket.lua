#!lua
-- Uses a ticket up.
--
-- KEYS  1 ticket
-- ARGV  1 the visit: a word that only this use of it knows
-- Returns  its holder, JSON; false when there is no such ticket, or another visit has used it.
-- Atomic because of several who come with one ticket exactly one may enter. Who comes again with the
--         same visit lost the first reply, and gets it once more.

local holder = redis.call('HGET', KEYS[1], 'holder')
if not holder then return false end
redis.call('HSETNX', KEYS[1], 'visit', ARGV[1])
if redis.call('HGET', KEYS[1], 'visit') ~= ARGV[1] then return false end
return holder
