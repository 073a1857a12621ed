-- Start-time fair queueing: in which order the jobs of all callers run.
--
-- A job waits at a slot of the queue: its score is the slot's start tag. `start = max(V, finish of the caller)`, `finish
-- = start + step`, and a step is 1 / weight of the caller. V is the start tag of the last job that was taken. A caller
-- with 10,000 jobs has slots V … V + 10,000; another caller's first job has the slot V. `tags` holds V (member '') and
-- the callers' finish tags above V. Tags begin at 0 where nothing waits: below every clock, as arq compares them.
-- Which of a caller's jobs runs at its next slot is decided by its `line`, ordered by tags of the same kind with the steps of
-- the priorities; `turns` holds the line's V ('v'), a finish tag for each step, and where the next parked job goes
-- ('back'). So priorities move jobs between the
-- slots of their caller, and no caller has more slots by them.
local CLOCK = 1e12  -- scores above it are times in ms: jobs that an earlier version enqueued

local function tag(number) return string.format('%.17g', number) end

-- V: of the last job that was taken, or of the first one that waits where none was, or where the server has lost it.
local function virtual_time(queue, v)
  v = v or redis.call('ZRANGEBYSCORE', queue, 0, '(1e12', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  return tonumber(v or 0)
end

-- Lets two waiting jobs of a caller change places. `one` waits in the queue, `other` there or parked; false: nowhere.
local function exchange(queue, parked, one, other)
  local mine, theirs = redis.call('ZSCORE', queue, one), redis.call('ZSCORE', queue, other)
  if theirs then
    redis.call('ZADD', queue, theirs, one)
  else
    theirs = redis.call('ZSCORE', parked, other)
    if not theirs then return false end
    redis.call('ZREM', parked, other)
    redis.call('ZADD', parked, theirs, one)
    redis.call('ZREM', queue, one)
  end
  redis.call('ZADD', queue, mine, other)
  return true
end

-- The place of a waiting job, from 1; 0: it does not wait. Behind a parked one are those that are parked after it.
local function place(queue, parked, job_id)
  local rank = redis.call('ZRANK', queue, job_id)
  if rank then return rank + 1 end
  rank = redis.call('ZRANK', parked, job_id)
  if not rank then return 0 end
  return rank + 1 + redis.call('ZCOUNT', queue, '-inf', '(' .. redis.call('ZSCORE', parked, job_id))
end

-- Adds a job to the line of its caller, where it takes the slot of the one behind it, if that is an earlier one.
local SHARES = {'0.0625', '0.25', '1'}
local function join(queue, line, turns, job_id, share, is_charged)
  local known, start, last = redis.call('HMGET', turns, 'v', unpack(SHARES)), 0, 0
  for i, each in ipairs(SHARES) do
    if each == share and is_charged then start = tonumber(known[i + 1] or 0) end
    if each ~= share and known[i + 1] then last = math.max(last, known[i + 1] - each) end
  end
  start = math.max(start, tonumber(known[1] or 0))
  if is_charged then redis.call('HSET', turns, share, tag(start + share)) end
  redis.call('ZADD', line, tag(start), job_id)
  if start > last and is_charged then return end  -- it is the last one

  local rank = redis.call('ZRANK', line, job_id)
  local behind = redis.call('ZRANGE', line, rank + 1, rank + 1)[1]
  local theirs = behind and redis.call('ZSCORE', queue, behind)
  if theirs and tonumber(theirs) < tonumber(redis.call('ZSCORE', queue, job_id)) then
    exchange(queue, '', job_id, behind)
  end
end

local function leave_line(line, turns, job_id)
  if redis.call('ZREM', line, job_id) == 1 and redis.call('EXISTS', line) == 0 then redis.call('DEL', turns) end
end

-- Enqueues a job, once, and wakes the workers. Answers its place. `step` '': the job is no generation, and goes first;
-- 0: its caller has been charged for it, and it goes to the front. `share` '': the job is in no line. `waiting` has when
-- the job of each generation was enqueued, for as long as it waits, in the queue or parked.
local function enqueue(queue, job, tags, line, turns, parked, waiting, job_id, payload, life, owner, step, share, wake)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  payload = string.format('{"at":%.0f,"step":%s,"share":%s,', now, step == '' and '0' or step, share == '' and '0' or share)
    .. string.sub(payload, 2)
  local is_new = redis.call('SET', job, payload, 'NX', 'PX', life)
  if is_new or not (redis.call('ZSCORE', queue, job_id) or redis.call('ZSCORE', parked, job_id)) then
    if step == '' then
      redis.call('ZADD', queue, string.format('%.0f', now - 1e13), job_id)
    else
      local known, charge = redis.call('ZMSCORE', tags, '', owner), tonumber(step)
      local start = virtual_time(queue, known[1])
      if charge > 0 then
        start = math.max(start, tonumber(known[2] or 0))
        redis.call('ZADD', tags, tag(start + charge), owner)
      end
      redis.call('ZADD', queue, tag(start), job_id)
      redis.call('ZADD', waiting, 'NX', string.format('%.0f', now), job_id)
      if share ~= '' then join(queue, line, turns, job_id, share, charge > 0) end
    end
  end
  redis.call('SPUBLISH', wake, '')
  return place(queue, parked, job_id)
end

-- Moves parked jobs of a caller back into the queue: as many as may run, and at most so many. Their slots begin at V
-- again, a step apart: a caller that was below its limit for long does not make up for it.
local function move_back(queue, tags, line, turns, running, parked, counts, owner, limit, step, most, now)
  if redis.call('EXISTS', parked) == 0 then
    redis.call('HDEL', counts, owner)
    return 0
  end
  redis.call('ZREMRANGEBYSCORE', running, '-inf', string.format('%.0f', now))
  if limit > 0 then most = math.min(most, limit - redis.call('ZCARD', running)) end
  if most <= 0 then return 0 end
  local moved = redis.call('ZPOPMIN', parked, most)
  local start = math.max(virtual_time(queue, redis.call('ZSCORE', tags, '')), tonumber(redis.call('HGET', turns, 'back') or 0))
  for i = 1, #moved, 2 do
    redis.call('ZADD', queue, tag(start), moved[i])
    start = start + step
  end
  if redis.call('EXISTS', line) == 1 then redis.call('HSET', turns, 'back', tag(start)) end
  local left = redis.call('ZCARD', parked)
  if left == 0 then redis.call('HDEL', counts, owner) else redis.call('HSET', counts, owner, left) end
  return #moved / 2
end
