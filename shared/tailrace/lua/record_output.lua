#!lua flags=allow-oom
-- Adds the output of an ended generation to what is stored for its caller, until its retention is over.
--
-- KEYS     stored, stored_until
-- ARGV     generation_id, bytes of the output, retention (ms)
-- Answers  OK
--
-- Idempotent: the size of the output is set, not added. A generation that was deleted meanwhile is not stored any more.
local stored, stored_until = KEYS[1], KEYS[2]
local generation_id, output, retention = ARGV[1], ARGV[2], tonumber(ARGV[3])

local known = redis.call('HGET', stored, generation_id)
if not known then return {'OK'} end
local request, before = string.match(known, '^(%d+)%+(%d+)$')
local time = redis.call('TIME')
redis.call('HSET', stored, generation_id, request .. '+' .. output)
redis.call('HINCRBY', stored, '', string.format('%.0f', output - before))
redis.call('ZADD', stored_until, string.format('%.0f', time[1] * 1000 + retention), generation_id)
return {'OK'}
