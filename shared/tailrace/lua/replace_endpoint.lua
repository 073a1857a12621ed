-- Replaces an endpoint of webhooks, if it is still as its caller has read it.
--
-- KEYS     endpoints
-- ARGV     endpoint id, the endpoint as it was read (JSON), the endpoint to store (JSON)
-- Answers  OK | CHANGED
--
-- A call that changes the URL must not undo another one that rotates the secret at the same time. Repeated after a lost
-- reply it answers OK. Out of memory: refused by Redis.
local endpoints, endpoint_id, before, after = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

local stored = redis.call('HGET', endpoints, endpoint_id)
if stored == after then return {'OK'} end
if stored ~= before then return {'CHANGED'} end
redis.call('HSET', endpoints, endpoint_id, after)
return {'OK'}
