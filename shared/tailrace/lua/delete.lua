#!lua flags=allow-oom
-- A generation is taken away; the tombstone keeps its owner, so that only they are told that it was there.
--
-- KEYS  state, log, tombstone, events
-- Answers  OK | UNKNOWN | GONE
--
-- Whatever runs is ended first (acquire, finish). Readers hear an empty message and look for themselves.
local state, log, tombstone, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
if redis.call('HEXISTS', tombstone, 'deleted') == 1 then return {'GONE'} end
if redis.call('EXISTS', tombstone) == 0 then return {'UNKNOWN'} end

redis.call('HSET', tombstone, 'deleted', 1)
redis.call('DEL', state, log)
redis.call('SPUBLISH', events, '')
return {'OK'}
