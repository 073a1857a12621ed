#!lua flags=allow-oom
-- Notes which generations of a shard seem to be stuck; those noted before and not given are so no longer.
--
-- KEYS     suspected
-- ARGV     life of the notes (ms), then each generation_id
-- Answers  for each generation_id the ms since it was first noted: 0 where this call is the first
local suspected, life = KEYS[1], ARGV[1]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local since = {}
for i = 2, #ARGV do
  since[i] = tonumber(redis.call('ZSCORE', suspected, ARGV[i]) or now)
end
redis.call('DEL', suspected)
if #ARGV == 1 then return {} end

local ages = {}
for i = 2, #ARGV do
  redis.call('ZADD', suspected, string.format('%.0f', since[i]), ARGV[i])
  ages[i - 1] = math.max(0, now - since[i])
end
redis.call('PEXPIRE', suspected, life)
return ages
