#!lua flags=allow-oom
-- Takes a job from the queue for one worker, under arq's own mark.
--
-- KEYS     queue, mark
-- ARGV     job_id, worker, life of the mark (ms), hold (ms), what scores are below the time of their job_id (ms),
--          run id of the server as the worker knows it, when the worker noticed that run (the server's ms)
-- Answers  OK score | HELD | UNKNOWN | CHANGED
--
-- HELD: another worker has the job; or the run of the server is younger than the hold, and the job_id is older than the
-- run: a worker that took the job before a restart or a failover lost the mark has that long to renew it, and a process
-- that cancelled the generation, to cancel it again. CHANGED: the server's run is another one. UNKNOWN: the job waits no
-- longer. The same worker gets the same answer, so a lost reply is asked for again. A job that waits no longer is not
-- marked: no process would remove that mark.
-- A run began when the worker noticed it, or before. A server that was never promoted also reports when it was started,
-- in whole seconds. The earlier of the two counts: a job from before it, of the same second too, counts as older.
local queue, mark = KEYS[1], KEYS[2]
local job_id, worker, life, hold, skew = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local known_run, began = ARGV[6], tonumber(ARGV[7])

local score = redis.call('ZSCORE', queue, job_id)
if not score then return {'UNKNOWN'} end
local held = redis.call('GET', mark)
if held and held ~= worker then return {'HELD'} end

local info, time = redis.call('INFO', 'server', 'replication'), redis.call('TIME')
local run_id, replication_id = string.match(info, 'run_id:([^\r\n]*)'), string.match(info, 'master_replid:([^\r\n]*)')
if (run_id or '') .. ' ' .. (replication_id or '') ~= known_run then return {'CHANGED'} end
if not string.find(string.match(info, 'master_replid2:(%w*)') or '', '[^0]') then
  began = math.min(began, 1000 * (time[1] - string.match(info, 'uptime_in_seconds:(%d+)') + 1))
end
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now - began < hold and tonumber(score) + skew < began then return {'HELD'} end
redis.call('SET', mark, worker, 'PX', life)
return {'OK', score}
