#!lua flags=allow-oom
-- Lets a generation whose worker has stopped wait for another worker, under another job_id.
--
-- KEYS     state, log, tombstone, events
-- ARGV     epoch, job_id, '' by its own worker or 'expired' by a sweeper, '1' if a sweeper does not charge the lost run
-- Answers  OK | HELD | TERMINATING | FENCED | DONE | UNKNOWN | GONE
--
-- A worker hands over what it holds, and that run is not charged. A sweeper requeues only what has no live lease. A
-- queued generation does not run, so a second sweeper spares no second run. The field `expired` remembers that the
-- worker may only have stalled, and how its run was counted: `renew` takes that back.
local state, tombstone = KEYS[1], KEYS[3]
local epoch, job_id, expired, spared = tonumber(ARGV[1]), ARGV[2], ARGV[3] == 'expired', ARGV[4] == '1'

local known = redis.call('HMGET', state, 'epoch', 'status', 'lease', 'terminating', 'job_id', 'expired')
if not known[1] then
  return {redis.call('HEXISTS', tombstone, 'deleted') == 1 and 'GONE' or 'UNKNOWN'}
end
if epoch < tonumber(known[1]) then return {'FENCED'} end
if known[2] ~= 'queued' and known[2] ~= 'running' then return {'DONE'} end
if known[4] then return {'TERMINATING'} end
if known[5] == job_id then return {'OK'} end

if expired then
  local time = redis.call('TIME')
  if tonumber(known[3]) > time[1] * 1000 + math.floor(time[2] / 1000) then return {'HELD'} end
  if known[2] == 'running' then
    if spared then redis.call('HINCRBY', state, 'spared', 1) end
    redis.call('HSET', state, 'expired', spared and 'spared' or 'charged')
  end
else
  redis.call('HINCRBY', state, 'handovers', 1)
  if known[6] == 'spared' then redis.call('HINCRBY', state, 'spared', -1) end
  redis.call('HDEL', state, 'expired')
end
redis.call('HSET', state, 'lease', 0, 'status', 'queued', 'job_id', job_id)
return {'OK'}
