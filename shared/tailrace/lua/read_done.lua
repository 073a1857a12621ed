-- Reads the end of a log as one string.
--
-- KEYS  state, log, tombstone, events
-- Answers  (the value of the newest entry, if that is `done`; else nil)
--
-- One string, because its reader has a place for it (`redis.bulk_reader`): `XREVRANGE` would nest it.
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if newest and newest[2][1] == 'done' then return newest[2][2] end
return false
