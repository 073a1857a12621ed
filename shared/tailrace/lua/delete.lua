#!lua flags=allow-oom
-- Deletes a generation. The tombstone keeps its owner: the owner gets 410, every other caller 404.
--
-- KEYS     state, log, tombstone, events
-- ARGV     owner ('' to delete only what the server knows), life of the tombstone (ms)
-- Answers  OK | UNKNOWN | GONE
--
-- The caller ends a running generation first (acquire, finish). Readers receive an empty message and read the state.
-- With an owner the deletion is recorded on a server that has lost the generation, too: no process can restore it.
local state, log, tombstone, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local owner, life = ARGV[1], ARGV[2]
if redis.call('HEXISTS', tombstone, 'deleted') == 1 then return {'GONE'} end
if owner ~= '' then
  redis.call('HSET', tombstone, 'owner', owner)
  redis.call('PEXPIRE', tombstone, life)
elseif redis.call('EXISTS', tombstone) == 0 then
  return {'UNKNOWN'}
end

redis.call('HSET', tombstone, 'deleted', 1)
redis.call('DEL', state, log)
redis.call('SPUBLISH', events, '')
return {'OK'}
