#!lua flags=allow-oom
-- Records a failed call of an upstream, and opens its circuit at the last one that the window allows.
--
-- KEYS     circuit, failures, circuits
-- ARGV     call, its generation, failures that open the circuit, their window (ms), time between two probes (ms), life of
--          the circuit (ms)
-- Answers  OK failures within the window | OPEN ms until the next probe
--
-- OPEN: by this call or an earlier one. The failure of the probe puts the next one off; the failure of any other call
-- changes nothing then, because it may have begun before the circuit opened. A generation counts once, however often its
-- request is repeated: no single request can open a circuit. Each change is published on `circuits`, without content:
-- workers read the states again.
local circuit, failures, circuits = KEYS[1], KEYS[2], KEYS[3]
local call, generation, limit, window = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local probe, life = tonumber(ARGV[5]), ARGV[6]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HMGET', circuit, 'probe_at', 'prober')
if known[1] then
  local probe_at = tonumber(known[1])
  if known[2] == call then
    probe_at = now + probe
    redis.call('HSET', circuit, 'probe_at', string.format('%.0f', probe_at))
    redis.call('HDEL', circuit, 'prober')
    redis.call('PEXPIRE', circuit, life)
    redis.call('SPUBLISH', circuits, '')
  end
  return {'OPEN', math.max(0, probe_at - now)}
end

redis.call('ZREMRANGEBYSCORE', failures, '-inf', string.format('%.0f', now - window))
redis.call('ZADD', failures, string.format('%.0f', now), generation)
redis.call('PEXPIRE', failures, string.format('%.0f', window))
local count = redis.call('ZCARD', failures)
if count < limit then return {'OK', count} end
local opened = string.format('%.0f', now)
redis.call('HSET', circuit, 'opened', opened, 'probe_at', string.format('%.0f', now + probe))
redis.call('PEXPIRE', circuit, life)
redis.call('SPUBLISH', circuits, '')
return {'OPEN', probe}
