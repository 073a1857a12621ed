#!lua flags=allow-oom
-- Somebody reads it.
--
-- KEYS  state, log, tombstone, events
-- Answers  OK | UNKNOWN
--
-- A state that is gone is not brought back by a look at it.
local state = KEYS[1]
if redis.call('EXISTS', state) == 0 then return {'UNKNOWN'} end
local time = redis.call('TIME')
redis.call('HSET', state, 'seen', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
return {'OK'}
