-- Sets or removes the limits of one caller, and announces that.
--
-- KEYS     callers
-- ARGV     caller, policy (JSON; '': remove it), the policy that it replaces ('*': any, '': none), channel
-- Answers  OK | CHANGED
--
-- CHANGED: another operator was faster; read it again. The field '' of the hash is its version: a time, so that a server
-- that has lost its data does not repeat one. Repeating the same call changes nothing but the version.
local callers, name, policy, replaces = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

local known = redis.call('HGET', callers, name) or ''
if replaces ~= '*' and known ~= replaces and known ~= policy then return {'CHANGED'} end
if policy == '' then
  redis.call('HDEL', callers, name)
else
  redis.call('HSET', callers, name, policy)
end
local time = redis.call('TIME')
redis.call('HSET', callers, '', time[1] .. string.format('%06d', time[2]))
redis.call('SPUBLISH', ARGV[4], '')
return {'OK'}
