#!lua flags=allow-oom
-- Charges what a generation has used to its caller, once, in place of what it had reserved.
--
-- KEYS     use, reserved, reserved_until, settled, outputs
-- ARGV     generation_id, input tokens, output tokens, cost, time of its end (ms; 0: it has none, and its reservation is
--          given back), ends of that day and of that month (ms), model ('': its output is no example for others), ms in
--          which an end can be charged, life of the keys (ms)
-- Answers  OK 1: charged, 0: it was charged before, or there was nothing to charge | OLD
--
-- A generation is charged once, whatever comes again: `settled` has it for longer than an end can be charged. OLD: its
-- end is older than that. Without it an end that waited for a server that was away would be charged again after its mark
-- has gone. An end of a day or a month that is over counts for neither. An end later than this server's clock is one of
-- another server's: its period begins a moment early.
-- A `rate` of 0: the caller has no limit of tokens a minute. Where tokens are owed, the time from which they are paid stays,
-- because `load` may pay them at a limit that was raised meanwhile. The sizes of outputs are counted in buckets, of
-- which each reaches to 1.41 times the one before; beyond 100 all counts are halved, so that old ones fade.
local use, reserved, reserved_until, settled, outputs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local generation_id, input, output, cost = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ended_at, model, chargeable, life = tonumber(ARGV[5]), ARGV[8], tonumber(ARGV[9]), ARGV[10]
local ends = {day = tonumber(ARGV[6]), month = tonumber(ARGV[7])}
local BUCKETS, KEPT = 40, 100

local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local is_new = ended_at > 0 and ended_at + chargeable >= now
if is_new then
  redis.call('ZREMRANGEBYSCORE', settled, '-inf', string.format('%.0f', now - chargeable - 60000))
  is_new = redis.call('ZADD', settled, 'NX', string.format('%.0f', now), generation_id) == 1
  redis.call('PEXPIRE', settled, chargeable + 120000)
end

local used = is_new and input + output or 0
local held_tokens, held_cost = string.match(redis.call('HGET', reserved, generation_id) or '0+0', '^(%d+)%+(%d+)$')
if redis.call('HDEL', reserved, generation_id) == 1 then
  redis.call('ZREM', reserved_until, generation_id)
  redis.call('HINCRBY', use, 'held_tokens', string.format('%.0f', 0 - held_tokens))
  redis.call('HINCRBY', use, 'held_cost', string.format('%.0f', 0 - held_cost))
end
local known = redis.call('HMGET', use, 'level', 'at', 'rate')
if tonumber(known[3] or 0) > 0 and used ~= tonumber(held_tokens) then
  local at, more = tonumber(known[2]), used - held_tokens
  local owed = known[1] - (now - at) * known[3]
  local level = known[1] + more
  if owed <= 0 or owed + more <= 0 then at, level = now, math.max(0, math.max(0, owed) + more) end
  redis.call('HSET', use, 'level', string.format('%.3f', level), 'at', string.format('%.3f', at))
end
if not is_new then
  return ended_at > 0 and ended_at + chargeable < now and {'OLD'} or {'OK', 0}
end

for _, period in ipairs({'day', 'month'}) do
  local known_ends = tonumber(redis.call('HGET', use, period .. '_ends') or 0)
  if ends[period] > now and ends[period] > known_ends then
    redis.call('HSET', use, period .. '_ends', ARGV[period == 'day' and 6 or 7], period .. '_tokens', 0,
      period .. '_cost', 0)
    known_ends = ends[period]
  end
  if ends[period] == known_ends then
    redis.call('HINCRBY', use, period .. '_tokens', string.format('%.0f', input + output))
    redis.call('HINCRBY', use, period .. '_cost', string.format('%.0f', cost))
  end
end
redis.call('PEXPIRE', use, life)

if model ~= '' and output > 0 and (redis.call('HEXISTS', outputs, model) == 1 or redis.call('HLEN', outputs) < KEPT) then
  local counts, total = {}, 0
  for count in string.gmatch(redis.call('HGET', outputs, model) or string.rep('0 ', BUCKETS), '%d+') do
    counts[#counts + 1] = tonumber(count)
    total = total + count
  end
  local bucket = math.min(BUCKETS, math.max(1, math.ceil(2 * math.log(output) / math.log(2) - 0.000001)))
  counts[bucket] = counts[bucket] + 1
  if total >= KEPT then
    for index = 1, #counts do counts[index] = math.floor(counts[index] / 2) end
  end
  redis.call('HSET', outputs, model, table.concat(counts, ' '))
  redis.call('PEXPIRE', outputs, life)
end
return {'OK', 1}
