#!lua flags=allow-oom
-- Takes a slot of an upstream that may have so many calls at once.
--
-- KEYS     slots
-- ARGV     call, how many slots there are, life of a slot that is not renewed (ms)
-- Answers  OK slots in use | FULL slots in use
--
-- A slot whose worker died becomes free when it expires. The same call gets the same slot.
local slots = KEYS[1]
local call, limit, life = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', slots, '-inf', string.format('%.0f', now))
local count = redis.call('ZCARD', slots)
if not redis.call('ZSCORE', slots, call) then
  if count >= limit then return {'FULL', count} end
  count = count + 1
end
redis.call('ZADD', slots, string.format('%.0f', now + life), call)
redis.call('PEXPIRE', slots, string.format('%.0f', life))
return {'OK', count}
