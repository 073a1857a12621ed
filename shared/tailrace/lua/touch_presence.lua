#!lua flags=allow-oom
-- Records that the generation has a reader.
--
-- KEYS     state, log, tombstone, events
-- Answers  OK | UNKNOWN
--
-- A state that does not exist is not created.
local state = KEYS[1]
if redis.call('EXISTS', state) == 0 then return {'UNKNOWN'} end
local time = redis.call('TIME')
redis.call('HSET', state, 'seen', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
return {'OK'}
