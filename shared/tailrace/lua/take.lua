#!lua flags=allow-oom
-- Takes a job from the queue for one worker, under arq's own mark.
--
-- KEYS     queue, mark
-- ARGV     job_id, worker, life of the mark (ms), hold (s), what scores are below the time of their job_id (ms)
-- Answers  OK score | HELD | UNKNOWN
--
-- HELD: another worker has the job; or the server started less than the hold ago and the job_id is older than the
-- server: a worker that took the job before a restart lost the mark has that long to renew it. UNKNOWN: the job waits
-- no longer. The same worker gets the same answer, so a lost reply is asked for again. A job that waits no longer is
-- not marked: no process would remove that mark.
local queue, mark = KEYS[1], KEYS[2]
local job_id, worker, life, hold, skew = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

local score = redis.call('ZSCORE', queue, job_id)
if not score then return {'UNKNOWN'} end
local held = redis.call('GET', mark)
if held and held ~= worker then return {'HELD'} end
local uptime = tonumber(string.match(redis.call('INFO', 'server'), 'uptime_in_seconds:(%d+)'))
if uptime < hold then
  local started = redis.call('TIME')[1] - uptime
  if (tonumber(score) + skew) / 1000 < started then return {'HELD'} end
end
redis.call('SET', mark, worker, 'PX', life)
return {'OK', score}
