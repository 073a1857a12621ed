#!lua flags=allow-oom
-- Ends a generation, once.
--
-- KEYS     state, log, tombstone, events
-- ARGV     epoch, seq that was folded, status, the row as one message, the row: id, field, value, extra, then
--          its output tokens ('' where they are not known), what it has used (`log.spent`), the code of its error ('' for
--          none)
-- Answers  OK | CHANGED seq | FENCED | DONE row | UNKNOWN | GONE
--
-- Compare-and-set: `done` holds the fold of the log, so it is written only onto the seq that was folded. Of several
-- writers one writes `done`. Every key of the generation then lives for its retention. UNKNOWN as in `append`.
local state, log, tombstone, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, folded, status, message = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local id, field, value, extra, tokens, spent = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local failure = ARGV[11] or ''

local known = redis.call('HMGET', state, 'epoch', 'seq', 'status', 'retention')
if not known[1] then
  return {redis.call('HEXISTS', tombstone, 'deleted') == 1 and 'GONE' or 'UNKNOWN'}
end
if known[3] ~= 'queued' and known[3] ~= 'running' then
  return {'DONE', redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]}
end
if epoch < tonumber(known[1]) then return {'FENCED'} end
if epoch > tonumber(known[1]) then return {'UNKNOWN'} end
if folded ~= tonumber(known[2]) then return {'CHANGED', tonumber(known[2])} end

if extra == '' then
  redis.call('XADD', log, id, field, value)
else
  redis.call('XADD', log, id, field, value, 'extra', extra)
end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', state, 'seq', string.match(id, '%d+$'), 'status', status, 'lease', 0, 'spent', spent or '', 'ended',
  now)
redis.call('HDEL', state, 'measures', 'upstream_response')
if tokens ~= '' then redis.call('HSET', state, 'tokens', tokens) end
if failure ~= '' then redis.call('HSET', state, 'failure', failure) end
redis.call('PEXPIRE', state, known[4])
redis.call('PEXPIRE', log, known[4])
redis.call('SPUBLISH', events, message)
return {'OK'}
