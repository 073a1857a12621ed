#!lua flags=allow-oom
-- Adds a generation to the unfinished ones, where it is about to be restored.
--
-- KEYS     unfinished
-- ARGV     generation_id
-- Answers  OK
--
-- `SADD` alone would be refused by a full server, which restores what runs.
redis.call('SADD', KEYS[1], ARGV[1])
return {'OK'}
