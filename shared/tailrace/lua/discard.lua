#!lua flags=allow-oom
-- Deletes a generation whose creation was refused after `create`, as if it had never been.
--
-- KEYS     state, log, tombstone, events
-- ARGV     job_id
-- Answers  OK | HELD | UNKNOWN
--
-- HELD: an earlier or a later call with the same id relies on the generation, or a worker has taken it.
local state, log, tombstone = KEYS[1], KEYS[2], KEYS[3]
local job_id = ARGV[1]

local known = redis.call('HMGET', state, 'job_id', 'status', 'epoch', 'created', 'shared')
if not known[1] then return {'UNKNOWN'} end
local is_untouched = known[2] == 'queued' and known[3] == known[4] and not known[5]
if known[1] ~= job_id or not is_untouched then return {'HELD'} end
redis.call('DEL', state, log, tombstone)
return {'OK'}
