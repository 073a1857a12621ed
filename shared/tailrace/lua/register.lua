-- Adds a generation to the indexes: the unfinished ones, and its owner's two lists.
--
-- KEYS     unfinished, owned, unfinished_of
-- ARGV     generation_id, created, deadline, longest life of any generation, lease (ms each)
-- Answers  OK
--
-- Idempotent: scores never change. Generations older than the longest life leave the owner's list, and generations
-- whose deadline passed a lease ago leave the owner's count: both are no longer kept. Out of memory: refused by Redis.
local unfinished, owned, unfinished_of = KEYS[1], KEYS[2], KEYS[3]
local generation_id, created, deadline = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local life, lease = tonumber(ARGV[4]), tonumber(ARGV[5])

redis.call('SADD', unfinished, generation_id)
redis.call('ZREMRANGEBYSCORE', owned, '-inf', string.format('%.0f', created - life))
redis.call('ZADD', owned, 'NX', string.format('%.0f', created), generation_id)
redis.call('PEXPIRE', owned, life)
redis.call('ZREMRANGEBYSCORE', unfinished_of, '-inf', string.format('%.0f', created - lease))
redis.call('ZADD', unfinished_of, 'NX', string.format('%.0f', deadline), generation_id)
redis.call('PEXPIRE', unfinished_of, life)
return {'OK'}
