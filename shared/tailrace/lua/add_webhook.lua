#!lua flags=allow-oom
-- Notes a webhook for its delivery, once.
--
-- KEYS     known, pending, due, bodies
-- ARGV     webhook id, body, endpoint as `pending` lists it, how long the id stays known (ms), the most that may wait
-- Answers  OK | DONE | FULL
--
-- DONE: it was noted before, and has perhaps been delivered. FULL: too many wait at the endpoint; it is not noted. Small
-- and bounded, so a server without room takes it: an end that has been written must not wait for its webhook.
local known, pending, due, bodies = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local webhook_id, body, endpoint, life, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

if redis.call('EXISTS', known) == 1 then return {'DONE'} end
if redis.call('ZCARD', due) >= most then return {'FULL'} end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', known, '', 'PX', life)
redis.call('SADD', pending, endpoint)
redis.call('ZADD', due, string.format('%.0f', now), webhook_id)
redis.call('HSET', bodies, webhook_id, body)
return {'OK'}
