-- Reads the end of a log as one string.
--
-- KEYS     state, log, tombstone, events
-- Answers  the value of the newest entry if that is `done`, else nil
--
-- `XREVRANGE` would nest the value in arrays; `redis.bulk_reader` reads one string into one buffer.
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if newest and newest[2][1] == 'done' then return newest[2][2] end
return false
