-- Changes the keys, blocks and revocations, and publishes that they have changed.
--
-- KEYS     access, its channel
-- ARGV     field, value, expected, field, value, expected, …; an empty value removes the field. Where `expected` is not
--          empty, the field has it, or the new value already: the call is repeated
-- Answers  the new version; 0: a field has another value than is expected, and nothing has changed
--
-- A version is the server's time in microseconds, or one more than the version before: no two states have the same one,
-- also after the server has lost one. Repeated after a lost reply it does the same again, under one more version. Out of
-- memory: refused by Redis.
local access, changed = KEYS[1], KEYS[2]

for i = 1, #ARGV, 3 do
  local now = ARGV[i + 2] ~= '' and redis.call('HGET', access, ARGV[i])
  if ARGV[i + 2] ~= '' and now ~= ARGV[i + 2] and now ~= ARGV[i + 1] then
    return '0'
  end
end
for i = 1, #ARGV, 3 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', access, ARGV[i])
  else
    redis.call('HSET', access, ARGV[i], ARGV[i + 1])
  end
end
local time = redis.call('TIME')
local before = tonumber(redis.call('HGET', access, 'version') or '0')
local version = string.format('%.0f', math.max(time[1] * 1000000 + time[2], before + 1))
redis.call('HSET', access, 'version', version)
redis.call('SPUBLISH', changed, version)
return version
