-- Adds a generation to its owner's lists and sizes, enqueues its job and wakes the workers.
--
-- KEYS     owned, unfinished_of, stored, stored_until, generations, then as for `enqueue`
-- ARGV     generation_id, created, deadline, longest life of any generation, lease (ms each), size of the request
--          (bytes), time until which it is kept at most (ms), then as for `enqueue`; job_id '' to enqueue nothing
-- Answers  OK position (0 where nothing is enqueued)
--
-- One script, so that a server that has no room does both or neither. Idempotent: scores never change, and the same job
-- twice is one job. Up to 500 generations older than the longest life leave the owner's list, and as many that of all
-- generations; those whose deadline passed a lease ago leave the owner's count: all of them are no longer kept. Out of
-- memory: refused by Redis at the first command, which therefore takes memory.
local owned, unfinished_of, stored, stored_until = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local generations = KEYS[5]
local generation_id, created, deadline = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local life, lease = tonumber(ARGV[4]), tonumber(ARGV[5])
local size, kept_until, job_id = ARGV[6], ARGV[7], ARGV[8]

for _, list in ipairs({owned, generations}) do
  redis.call('ZADD', list, 'NX', string.format('%.0f', created), generation_id)
  local old = redis.call('ZRANGEBYSCORE', list, '-inf', string.format('%.0f', created - life), 'LIMIT', 0, 500)
  if #old > 0 then redis.call('ZREM', list, unpack(old)) end
  redis.call('PEXPIRE', list, life)
end
redis.call('ZREMRANGEBYSCORE', unfinished_of, '-inf', string.format('%.0f', created - lease))
redis.call('ZADD', unfinished_of, 'NX', string.format('%.0f', deadline), generation_id)
redis.call('PEXPIRE', unfinished_of, life)
if redis.call('HSETNX', stored, generation_id, size .. '+0') == 1 then
  redis.call('HINCRBY', stored, '', size)
  redis.call('ZADD', stored_until, kept_until, generation_id)
  redis.call('PEXPIRE', stored, life)
  redis.call('PEXPIRE', stored_until, life)
end
if job_id == '' then return {'OK', 0} end

local place = enqueue(KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12], unpack(ARGV, 8))
return {'OK', place}
