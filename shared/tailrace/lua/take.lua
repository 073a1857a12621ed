#!lua flags=allow-oom
-- A worker takes a dispatch from the queue, under arq's own mark.
--
-- KEYS  queue, mark
-- ARGV  dispatch, worker, life of the mark (ms)
-- Answers  OK score | HELD | LOST
--
-- HELD: another worker has it. LOST: it waits no longer. The same worker gets the same answer, so a lost reply is simply
-- asked for again; and what waits no longer is not marked, for nobody would take that mark away.
local queue, mark = KEYS[1], KEYS[2]
local dispatch, worker, life = ARGV[1], ARGV[2], ARGV[3]

local score = redis.call('ZSCORE', queue, dispatch)
if not score then return {'LOST'} end
local held = redis.call('GET', mark)
if held and held ~= worker then return {'HELD'} end
redis.call('SET', mark, worker, 'PX', life)
return {'OK', score}
