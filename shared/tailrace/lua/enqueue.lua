-- Puts a job into arq's queue and wakes the workers.
--
-- KEYS     queue, job
-- ARGV     job_id, payload, life of the payload (ms), clock skew (ms), channel that wakes workers
-- Answers  OK position
--
-- As arq's `enqueue_job`, but without its WATCH: where a connection is lost under WATCH, arq raises an error that is no
-- connection error, or reports that the job existed. The same job twice is one job. Jobs are scored `clock skew` in the
-- past, because arq compares the score with the worker's clock. Out of memory: refused by Redis.
local queue, job = KEYS[1], KEYS[2]
local job_id, payload, life, skew, wake = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', job, payload, 'NX', 'PX', life)
redis.call('ZADD', queue, 'NX', string.format('%.0f', now - skew), job_id)
redis.call('SPUBLISH', wake, '')
return {'OK', redis.call('ZRANK', queue, job_id) + 1}
