#!lua flags=allow-oom
-- Removes a job with all that is kept of it; another one of its caller may run instead.
--
-- KEYS     queue, job, mark, retries, tags, line, turns, running, parked, parked_counts, wake, waiting
-- ARGV     job_id, caller, how many of the caller's may run at once (0: any number), step of the caller, '1' where its
--          run has ended
-- Answers  OK
--
-- A job that has not been taken gives its cost back: the one behind it in the line takes its slot, and the caller's next
-- job follows its last one. (Where jobs of several priorities wait, the cost of the last slot alone is given back: a
-- caller could otherwise gather many jobs at one slot.) A run that is not known to have ended keeps its place
-- among those that run, until its worker has ended it or its lease expires. Idempotent.
local queue, job, mark, tags, line, turns = KEYS[1], KEYS[2], KEYS[3], KEYS[5], KEYS[6], KEYS[7]
local running, parked, counts = KEYS[8], KEYS[9], KEYS[10]
local job_id, owner, limit, step, has_ended = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'

local in_queue, in_parked = redis.call('ZSCORE', queue, job_id), redis.call('ZSCORE', parked, job_id)
local waits = in_parked or (in_queue and redis.call('EXISTS', mark) == 0)
local hole = tonumber(in_queue or in_parked)
if in_queue and waits then
  local rank = redis.call('ZRANK', line, job_id)
  local behind = rank and redis.call('ZRANGE', line, rank + 1, rank + 1)[1]
  local theirs = behind and redis.call('ZSCORE', queue, behind)
  if theirs and tonumber(theirs) > hole then
    redis.call('ZADD', queue, in_queue, behind)
    hole = tonumber(theirs)
  end
end
redis.call('ZREM', queue, job_id)
redis.call('ZREM', parked, job_id)
local charge, share = string.match(redis.call('GET', job) or '', '^{"at":%d+,"step":([%d.e+-]+),"share":([%d.]+),')
charge = waits and tonumber(charge or 0) or 0
local classes = redis.call('HLEN', turns) - redis.call('HEXISTS', turns, 'v') - redis.call('HEXISTS', turns, 'back')
local turn = redis.call('ZSCORE', line, job_id)
leave_line(line, turns, job_id)
local last = classes == 1 and redis.call('ZRANGE', line, -1, -1, 'WITHSCORES') or {}
if charge > 0 then
  local finish = tonumber(redis.call('ZSCORE', tags, owner) or 0)
  local slot = last[1] and (redis.call('ZSCORE', queue, last[1]) or redis.call('ZSCORE', parked, last[1]))
  local is_last = redis.call('EXISTS', line) == 0 or hole + charge * 1.000001 >= finish
  local free = slot and slot + charge or (is_last and hole)
  if free and free < finish then redis.call('ZADD', tags, tag(free), owner) end
end
local line_finish = charge > 0 and turn and tonumber(redis.call('HGET', turns, share) or 0)
if line_finish and line_finish > 0 then
  local free = last[2] and last[2] + share or (turn + share * 1.000001 >= line_finish and tonumber(turn))
  if free and free < line_finish then redis.call('HSET', turns, share, tag(free)) end
end
redis.call('DEL', job, mark, KEYS[4])
redis.call('ZREM', KEYS[12], job_id)

local ended = has_ended and redis.call('ZREM', running, job_id) == 1
if owner ~= '' and (ended or waits) then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if move_back(queue, tags, line, turns, running, parked, counts, owner, limit, step, 1, now) > 0 then
    redis.call('SPUBLISH', KEYS[11], '')
  end
end
if redis.call('EXISTS', queue) == 0 and redis.call('EXISTS', counts) == 0 then redis.call('DEL', tags) end
return {'OK'}
