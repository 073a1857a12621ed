-- Notes the generation that answers a chat, unless a newer one does.
--
-- KEYS     chat
-- ARGV     generation_id, created (ms), life (s)
-- Answers  OK known | OLDER
--
-- `known`: the id of the generation that was the newest until now; '' if there was none.
-- OLDER: a repeated request leads to the generation that it has created before. Idempotent. Out of memory: refused by
-- Redis.
local chat, generation_id, created, life = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]

local known = redis.call('GET', chat)
if known and tonumber(string.match(known, '^(%d+) ')) > created then return {'OLDER'} end
redis.call('SET', chat, string.format('%.0f ', created) .. generation_id, 'EX', life)
return {'OK', known and string.match(known, ' (.+)$') or ''}
