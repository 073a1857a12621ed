#!lua flags=allow-oom
-- Takes a job from the queue for one worker, under arq's own mark; its caller then has one more that runs.
--
-- KEYS     queue, mark, job, tags, line, turns, running, parked, parked_counts, waiting
-- ARGV     job_id, worker, life of the mark (ms), hold (ms), what the scores of earlier versions are below their time
--          (ms), run id of the server as the worker knows it, when the worker noticed that run (the server's ms),
--          caller ('' where none is counted), how many of the caller's may run at once (0: any number), life of a lease
--          in `running` that is not renewed (ms), '1' to take the job although it is not its turn
-- Answers  OK score | OTHER job_id | PARKED | HELD | UNKNOWN | CHANGED
--
-- OTHER: it is another job's turn, which has the slot now; take that one (which may be held back).
-- PARKED: as many of the caller's run as may. The job has left the queue, so that it is in no other caller's way, and
-- the end of another one moves one back.
-- HELD: another worker has the job; or the run of the server is younger than the hold, and the job is older than the
-- run, or its caller has a limit: a worker that took the job before a restart or a failover lost the mark, or the lease,
-- has that long to renew it, and a process that cancelled the generation, to cancel it again. CHANGED: the server's run
-- is another one. UNKNOWN: the job waits no longer. The same worker gets the same answer, so a lost reply is asked for
-- again. A job that waits no longer is not marked: no process would remove that mark.
-- A run began when the worker noticed it, or before. A server that was never promoted also reports when it was started,
-- in whole seconds. The earlier of the two counts: a job from before it, of the same second too, counts as older.
local queue, mark, job, tags, line = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local turns, running, parked, counts, waiting = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local job_id, worker, life, hold, skew = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local known_run, began, owner, limit, lease = ARGV[6], tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
local whatever_turn = ARGV[11] == '1'

local score = redis.call('ZSCORE', queue, job_id)
if not score then
  if not redis.call('ZSCORE', parked, job_id) then
    leave_line(line, turns, job_id)
    redis.call('ZREM', waiting, job_id)
  end
  return {'UNKNOWN'}
end
local held = redis.call('GET', mark)
if held and held ~= worker then return {'HELD'} end

local info, time = redis.call('INFO', 'server', 'replication'), redis.call('TIME')
local run_id, replication_id = string.match(info, 'run_id:([^\r\n]*)'), string.match(info, 'master_replid:([^\r\n]*)')
if (run_id or '') .. ' ' .. (replication_id or '') ~= known_run then return {'CHANGED'} end
if not string.find(string.match(info, 'master_replid2:(%w*)') or '', '[^0]') then
  began = math.min(began, 1000 * (time[1] - string.match(info, 'uptime_in_seconds:(%d+)') + 1))
end
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local enqueued = string.match(redis.call('GET', job) or '', '^{"at":(%d+),') or tonumber(score) + skew
if now - began < hold and (tonumber(enqueued) < began or limit > 0) then return {'HELD'} end

if not held then
  if owner ~= '' and limit > 0 then
    redis.call('ZREMRANGEBYSCORE', running, '-inf', string.format('%.0f', now))
    if redis.call('ZCARD', running) >= limit then
      redis.call('ZREM', queue, job_id)
      redis.call('ZADD', parked, score, job_id)
      redis.call('HSET', counts, owner, redis.call('ZCARD', parked))
      return {'PARKED'}
    end
  end
  local turn = redis.call('ZSCORE', line, job_id)
  if turn then
    local first = whatever_turn and job_id or redis.call('ZRANGE', line, 0, 0)[1]
    while first ~= job_id do
      if exchange(queue, parked, job_id, first) then return {'OTHER', first} end
      redis.call('ZREM', line, first)  -- a worker of an earlier version has taken it
      first = redis.call('ZRANGE', line, 0, 0)[1]
    end
    if not whatever_turn then redis.call('HSET', turns, 'v', turn) end
    leave_line(line, turns, job_id)
  end
  local start = tonumber(score)
  if start >= 0 and start < CLOCK and start > tonumber(redis.call('ZSCORE', tags, '') or -1) then
    redis.call('ZADD', tags, score, '')
    redis.call('ZREMRANGEBYSCORE', tags, '-inf', '(' .. score)
  end
end
if owner ~= '' then
  redis.call('ZADD', running, string.format('%.0f', now + lease), job_id)
  redis.call('PEXPIRE', running, string.format('%.0f', lease))
end
redis.call('ZREM', waiting, job_id)
redis.call('SET', mark, worker, 'PX', life)
return {'OK', score}
