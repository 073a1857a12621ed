#!lua
-- Has one more call rely on a generation that waits: a refusal of the call that created it no longer deletes it.
--
-- KEYS     state, log, tombstone, events
-- Answers  OK created_ms job_id size of the request (bytes) | UNKNOWN
--
-- UNKNOWN: there is no generation, or it does not wait any more. As `create` with the same id, without the request. Out
-- of memory: refused by Redis before it runs (no allow-oom flag).
local state = KEYS[1]

local known = redis.call('HMGET', state, 'created', 'status', 'terminating', 'job_id')
if known[2] ~= 'queued' or known[3] then return {'UNKNOWN'} end
redis.call('HSET', state, 'shared', 1)
return {'OK', known[1], known[4], redis.call('HSTRLEN', state, 'request')}
