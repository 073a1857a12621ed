-- Stores an endpoint of webhooks, or finds the one that an earlier call with the same claim has stored.
--
-- KEYS     endpoints, claim
-- ARGV     endpoint id, the endpoint (JSON), the most that the owner may have, 1 where the claim is to stand for a new
--          endpoint and 0 otherwise, how long the claim lives (ms; 0: there is none)
-- Answers  OK, the endpoint that is stored (JSON) | FULL
--
-- FULL: the owner has as many endpoints as may be; the claim stays as it is. Repeated after a lost reply it answers the
-- same. Out of memory: refused by Redis.
local endpoints, claim = KEYS[1], KEYS[2]
local endpoint_id, endpoint, most, is_new, life = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])

local stored = redis.call('HGET', endpoints, endpoint_id)
if not stored and is_new == '0' then
  local claimed = redis.call('GET', claim)
  stored = claimed and redis.call('HGET', endpoints, claimed)
end
if stored then return {'OK', stored} end
if redis.call('HLEN', endpoints) >= most then return {'FULL'} end

redis.call('HSET', endpoints, endpoint_id, endpoint)
if life > 0 then redis.call('SET', claim, endpoint_id, 'PX', life) end
return {'OK', endpoint}
