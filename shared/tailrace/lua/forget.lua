#!lua flags=allow-oom
-- Removes generations from their owner's list and from what is stored for the owner.
--
-- KEYS     owned, stored, stored_until
-- ARGV     generation ids
-- Answers  OK
--
-- Idempotent: a generation without a size takes nothing from the sum.
local owned, stored, stored_until = KEYS[1], KEYS[2], KEYS[3]

for _, generation_id in ipairs(ARGV) do
  local known = redis.call('HGET', stored, generation_id)
  if known then
    local request, output = string.match(known, '^(%d+)%+(%d+)$')
    redis.call('HINCRBY', stored, '', string.format('%.0f', 0 - (request + output)))
    redis.call('HDEL', stored, generation_id)
  end
  redis.call('ZREM', stored_until, generation_id)
  redis.call('ZREM', owned, generation_id)
end
return {'OK'}
