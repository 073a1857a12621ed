-- Creates a generation: its state, its first entry, and the tombstone that outlives both.
--
-- KEYS     state, log, tombstone, events
-- ARGV     record (JSON), request (JSON), owner, job_id, created (JSON without `at`), seq of created,
--          deadline, retention, lease (ms each)
-- Answers  OK created_ms job_id | GONE deleted | GONE expired
--
-- Idempotent by id: an existing generation answers OK with its own time, and with the job under which it waits (''
-- once it does not wait any more). One that waits is marked as shared by two calls (`discard`). Out of memory: refused
-- by Redis before it runs (no allow-oom flag).
local state, log, tombstone = KEYS[1], KEYS[2], KEYS[3]
local record, request, owner, job_id, created, seq = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local deadline, retention, lease = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])

local known = redis.call('HMGET', state, 'created', 'status', 'terminating', 'job_id')
if known[1] then
  local waits = known[2] == 'queued' and not known[3]
  if waits then redis.call('HSET', state, 'shared', 1) end
  return {'OK', known[1], waits and known[4] or ''}
end
if redis.call('EXISTS', tombstone) == 1 then
  return {'GONE', redis.call('HEXISTS', tombstone, 'deleted') == 1 and 'deleted' or 'expired'}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = string.format('%.0f', now)
local at = string.format('%.13g', now / 1000)  -- the shortest text of the number, as a worker encodes it on restoring
if not string.find(at, '.', 1, true) then at = at .. '.0' end

redis.call('HSET', state,
  'record', record, 'request', request, 'created', now_text, 'deadline', string.format('%.0f', now + deadline),
  'retention', string.format('%.0f', retention), 'status', 'queued', 'job_id', job_id,
  'epoch', now_text, 'attempt', 0, 'seq', seq, 'lease', 0)
redis.call('XADD', log, now_text .. '-' .. seq, 'created',
  '{"at":' .. at .. ',' .. string.sub(created, 2))
redis.call('HSET', tombstone, 'owner', owner)

local life = deadline + lease + retention
redis.call('PEXPIRE', state, life)
redis.call('PEXPIRE', log, life)
redis.call('PEXPIRE', tombstone, deadline + 2 * retention + 86400000)
return {'OK', now_text, job_id}
