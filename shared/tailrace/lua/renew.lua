#!lua flags=allow-oom
-- Renews a worker's lease. With a lease of 0 it ends: the worker is known to be dead.
--
-- KEYS     state, log, tombstone, events
-- ARGV     epoch, lease (ms), grace (ms) if the generation runs only while it is read, else '', generations that the
--          worker runs beside it, the generation's measures (JSON, '' where they have not changed), the response that
--          an upstream runs in its background ('' for none, left out where it has not changed)
-- Answers  OK | ABANDONED | FENCED | DONE | UNKNOWN | GONE
--
-- A worker that stalled for longer than its lease, and that no other one has replaced yet, runs again: its run was not
-- lost. If it dies now, a sweeper requeues the generation when this lease expires, and not a lease later.
-- ABANDONED: for the grace there was no reader since the creation, or since the last reader. The lease is renewed all
-- the same. UNKNOWN as in `append`.
local state, tombstone = KEYS[1], KEYS[3]
local epoch, lease, grace, neighbours = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local measures, response = ARGV[5], ARGV[6]

local known = redis.call('HMGET', state, 'epoch', 'status', 'created', 'seen', 'expired')
if not known[1] then
  return {redis.call('HEXISTS', tombstone, 'deleted') == 1 and 'GONE' or 'UNKNOWN'}
end
if epoch < tonumber(known[1]) then return {'FENCED'} end
if known[2] ~= 'queued' and known[2] ~= 'running' then return {'DONE'} end
if epoch > tonumber(known[1]) then return {'UNKNOWN'} end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', state, 'lease', string.format('%.0f', now + lease), 'neighbours', neighbours)
if measures ~= '' then redis.call('HSET', state, 'measures', measures) end
if response == '' then
  redis.call('HDEL', state, 'upstream_response')
elseif response then
  redis.call('HSET', state, 'upstream_response', response)
end
if known[2] == 'queued' and known[5] then
  redis.call('HSET', state, 'status', 'running')
  redis.call('HDEL', state, 'expired')
  if known[5] == 'spared' then redis.call('HINCRBY', state, 'spared', -1) end
end
if grace and now > tonumber(known[4] or known[3]) + grace then return {'ABANDONED'} end
return {'OK'}
