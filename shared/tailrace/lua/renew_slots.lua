#!lua flags=allow-oom
-- Renews the slots of one worker's calls.
--
-- KEYS     slots
-- ARGV     life of a slot that is not renewed (ms), then the calls
-- Answers  OK slots in use
--
-- A slot that has expired meanwhile is taken again, also where another call has it now: the call goes on, and counts.
-- Until there are fewer calls than slots, no further one begins.
local slots, life = KEYS[1], tonumber(ARGV[1])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', slots, '-inf', string.format('%.0f', now))
for i = 2, #ARGV do
  redis.call('ZADD', slots, string.format('%.0f', now + life), ARGV[i])
end
redis.call('PEXPIRE', slots, string.format('%.0f', life))
return {'OK', redis.call('ZCARD', slots)}
