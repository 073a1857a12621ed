#!lua flags=allow-oom
-- Restores what the server has lost of a log, from the memory of the worker that writes it: same ids, same bytes.
--
-- KEYS     state, log, tombstone, events
-- ARGV     epoch, owner, lease (ms), life of state and log, life of the tombstone (ms), number of state fields, their
--          names and values, then for each row: id, field, value, extra ('' for none)
-- Answers  OK | FENCED | DONE | GONE
--
-- An id names its epoch, and the entries before an epoch never change: where the log's newest id is among these rows,
-- the log is a prefix of them, and the rest is appended. Where the newest id is not among them, a writer that was
-- fenced before has written again to a server that no longer knows this epoch: FENCED. The token of an earlier grant
-- becomes void, and readers have the whole grace to report again.
-- `create` writes the tombstone together with the state, and it outlives the state. A server that has the tombstone
-- alone has therefore lost nothing: the generation has expired, and stays so: GONE.
local state, log, tombstone, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, owner, lease = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local life, tombstone_life, count = ARGV[4], ARGV[5], tonumber(ARGV[6])
local first_row = 7 + 2 * count

if redis.call('HEXISTS', tombstone, 'deleted') == 1 then return {'GONE'} end
local known = redis.call('HMGET', state, 'epoch', 'status', 'terminating')
local missing = first_row
if known[1] then
  if epoch < tonumber(known[1]) then return {'FENCED'} end
  if known[2] ~= 'queued' and known[2] ~= 'running' then return {'DONE'} end
  if epoch == tonumber(known[1]) then return {'OK'} end
  local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  while newest and ARGV[missing] and ARGV[missing] ~= newest[1] do missing = missing + 4 end
  if known[3] or not newest or not ARGV[missing] then return {'FENCED'} end
  missing = missing + 4
elseif redis.call('EXISTS', tombstone) == 1 then
  return {'GONE'}
else
  redis.call('DEL', log)
end

for i = missing, #ARGV, 4 do
  if ARGV[i + 3] == '' then
    redis.call('XADD', log, ARGV[i], ARGV[i + 1], ARGV[i + 2])
  else
    redis.call('XADD', log, ARGV[i], ARGV[i + 1], ARGV[i + 2], 'extra', ARGV[i + 3])
  end
end
for i = 7, first_row - 1, 2 do
  redis.call('HSET', state, ARGV[i], ARGV[i + 1])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', state, 'lease', string.format('%.0f', now + lease), 'seen', string.format('%.0f', now))
redis.call('HDEL', state, 'token', 'expired')
redis.call('HSET', tombstone, 'owner', owner)
redis.call('PEXPIRE', state, life)
redis.call('PEXPIRE', log, life)
redis.call('PEXPIRE', tombstone, tombstone_life)
redis.call('SPUBLISH', events, '')
return {'OK'}
