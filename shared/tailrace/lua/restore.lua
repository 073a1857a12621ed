#!lua flags=allow-oom
-- A log that its server lost comes back, from the memory of the worker that writes it: same ids, same bytes.
--
-- KEYS  head, log, tombstone, events
-- ARGV  owner, life of head and log, life of the tombstone (ms), number of head fields, their names and values,
--       then for each row: id, field, value, extra ('' for none)
-- Answers  OK | GONE
--
-- Only what is not there is restored: whoever comes second finds it done.
local head, log, tombstone, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local owner, life, tombstone_life, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

if redis.call('HEXISTS', tombstone, 'deleted') == 1 then return {'GONE'} end
if redis.call('EXISTS', head) == 1 then return {'OK'} end

redis.call('DEL', log)
for i = 5, 4 + 2 * count, 2 do
  redis.call('HSET', head, ARGV[i], ARGV[i + 1])
end
for i = 5 + 2 * count, #ARGV, 4 do
  if ARGV[i + 3] == '' then
    redis.call('XADD', log, ARGV[i], ARGV[i + 1], ARGV[i + 2])
  else
    redis.call('XADD', log, ARGV[i], ARGV[i + 1], ARGV[i + 2], 'extra', ARGV[i + 3])
  end
end
redis.call('HSET', tombstone, 'owner', owner)
redis.call('PEXPIRE', head, life)
redis.call('PEXPIRE', log, life)
redis.call('PEXPIRE', tombstone, tombstone_life)
redis.call('SPUBLISH', events, '')
return {'OK'}
