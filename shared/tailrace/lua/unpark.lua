#!lua flags=allow-oom
-- Moves a caller's parked jobs back into the queue, as many as may run.
--
-- KEYS     queue, tags, line, turns, running, parked, parked_counts, wake
-- ARGV     caller, how many of the caller's may run at once (0: any number), step of the caller, how many to move at most
-- Answers  OK how many were moved
--
-- The end of a run moves one back (`withdraw`). This is for what ends without a word: leases of workers that have died,
-- and a limit that was raised.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local moved = move_back(
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]),
  tonumber(ARGV[4]), now)
if moved > 0 then redis.call('SPUBLISH', KEYS[8], '') end
return {'OK', moved}
