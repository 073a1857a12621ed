#!lua flags=allow-oom
-- Claims webhooks of an endpoint that are due: until the claim ends, they are due for no other worker.
--
-- KEYS     pending, due, bodies, tries
-- ARGV     endpoint as `pending` lists it, the number of webhooks, the length of the claim (ms)
-- Answers  now (ms), then for each webhook: id, body, tries with this one
--
-- Repeated after a lost reply, the call claims the next ones; the first are due again when their claim ends. An endpoint
-- with nothing left leaves `pending`.
local pending, due, bodies, tries = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local endpoint, count, claim = ARGV[1], ARGV[2], tonumber(ARGV[3])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claimed = {string.format('%.0f', now)}
for _, webhook_id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', claimed[1], 'LIMIT', 0, count)) do
  redis.call('ZADD', due, string.format('%.0f', now + claim), webhook_id)
  table.insert(claimed, webhook_id)
  table.insert(claimed, redis.call('HGET', bodies, webhook_id))
  table.insert(claimed, redis.call('HINCRBY', tries, webhook_id, 1))
end
if redis.call('EXISTS', due) == 0 then redis.call('SREM', pending, endpoint) end
return claimed
