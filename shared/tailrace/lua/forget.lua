#!lua flags=allow-oom
-- Removes generations from their owner's list, from that of all, and from what is stored for the owner.
--
-- KEYS     owned, stored, stored_until, generations
-- ARGV     generation ids: a few hundred, because the script holds up every other command
-- Answers  OK
--
-- Idempotent: a generation without a size takes nothing from the sum.
local owned, stored, stored_until = KEYS[1], KEYS[2], KEYS[3]

local sum, seen = 0, {}
for index, known in ipairs(redis.call('HMGET', stored, unpack(ARGV))) do
  if known and not seen[ARGV[index]] then
    local request, output = string.match(known, '^(%d+)%+(%d+)$')
    sum = sum + request + output
    seen[ARGV[index]] = true
  end
end
if sum > 0 then redis.call('HINCRBY', stored, '', string.format('%.0f', 0 - sum)) end
redis.call('HDEL', stored, unpack(ARGV))
redis.call('ZREM', stored_until, unpack(ARGV))
redis.call('ZREM', owned, unpack(ARGV))
redis.call('ZREM', KEYS[4], unpack(ARGV))
return {'OK'}
