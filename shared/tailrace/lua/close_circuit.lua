#!lua flags=allow-oom
-- Closes the circuit of an upstream that has answered a probe.
--
-- KEYS     circuit, failures, circuits
-- ARGV     when the circuit opened, as the probe was answered
-- Answers  OK | UNKNOWN
--
-- UNKNOWN: it is closed already, or has opened again since. The failures are forgotten: it takes as many again to open the
-- circuit. The change is published on `circuits`.
local circuit, failures, circuits = KEYS[1], KEYS[2], KEYS[3]

if redis.call('HGET', circuit, 'opened') ~= ARGV[1] then return {'UNKNOWN'} end
redis.call('DEL', circuit, failures)
redis.call('SPUBLISH', circuits, '')
return {'OK'}
