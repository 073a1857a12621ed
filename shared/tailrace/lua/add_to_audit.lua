-- Adds an entry to the audit, also to that of the acts if it is one, and announces it.
--
-- KEYS     audit, acts, their channel
-- ARGV     1: it is an act; how many entries each stream keeps; field, value, field, value, …
-- Answers  the entry's id, the same in both streams
--
-- Acts have a stream of their own, so that reads and refusals, which can be repeated at will, remove none of them. Its
-- ids are older than the newest one where Redis has lost the audit and its clock went back: then the act is in the audit
-- alone. Repeated after a lost reply it adds the entry once more. Out of memory: refused by Redis.
local audit, acts, added = KEYS[1], KEYS[2], KEYS[3]
local is_act, kept = ARGV[1] == '1', ARGV[2]

local fields = {}
for i = 3, #ARGV do
  fields[#fields + 1] = ARGV[i]
end
local id = redis.call('XADD', audit, 'MAXLEN', '~', kept, '*', unpack(fields))
if is_act then
  redis.pcall('XADD', acts, 'MAXLEN', '~', kept, id, unpack(fields))
end
redis.call('SPUBLISH', added, '')
return id
