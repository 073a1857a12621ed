#!lua flags=allow-oom
-- Adds one worker's calls since its last report to the totals, and stores how many calls it has under way.
--
-- KEYS     totals, report
-- ARGV     number of the report, life of the report (ms), calls under way (JSON), then field and increment of each total
-- Answers  OK
--
-- A report that is sent again has its number, and is added once.
local totals, report = KEYS[1], KEYS[2]

if redis.call('HGET', report, 'number') ~= ARGV[1] then
  for i = 4, #ARGV, 2 do
    redis.call('HINCRBY', totals, ARGV[i], ARGV[i + 1])
  end
end
redis.call('HSET', report, 'number', ARGV[1], 'in_use', ARGV[3])
redis.call('PEXPIRE', report, ARGV[2])
return {'OK'}
