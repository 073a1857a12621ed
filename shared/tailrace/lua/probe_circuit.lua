#!lua flags=allow-oom
-- Asks for the one call that may try an upstream whose circuit is open.
--
-- KEYS     circuit
-- ARGV     call, time between two probes (ms), life of the circuit (ms)
-- Answers  OK (the circuit is closed) | PROBE when the circuit opened | OPEN ms until the next probe
--
-- A probe whose worker dies, or that takes long, does not keep others waiting: the next one is due after the same time.
-- The same call gets the same answer, so a lost reply is asked for again.
local circuit = KEYS[1]
local call, probe, life = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local known = redis.call('HMGET', circuit, 'opened', 'probe_at', 'prober')
if not known[1] then return {'OK'} end
if known[3] == call then return {'PROBE', known[1]} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now < tonumber(known[2]) then return {'OPEN', tonumber(known[2]) - now} end
redis.call('HSET', circuit, 'prober', call, 'probe_at', string.format('%.0f', now + probe))
redis.call('PEXPIRE', circuit, life)
return {'PROBE', known[1]}
