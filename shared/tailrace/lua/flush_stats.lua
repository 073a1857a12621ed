#!lua flags=allow-oom
-- Adds what one process has counted to the history, each flush once.
--
-- KEYS     flushed, then for each width of slots: counts, durations
-- ARGV     number of the flush, life of `flushed` (ms), lives of the slots (ms, one for each width), number of counts,
--          their names and amounts, then for each bucket: its place, amount
-- Answers  OK | AGAIN
--
-- AGAIN: this flush was added before, and its reply was lost. A name that begins with `>` keeps the greatest amount;
-- all others add up. A bucket is an unsigned number of 28 bits that stops at its greatest value. Every pair of KEYS gets
-- the same amounts, so that a longer slot is the sum of the shorter ones. `flushed` and the slots are on one server, and
-- go back together where that goes back to older data.
local flushed, number = KEYS[1], ARGV[1]
if redis.call('GET', flushed) == number then return {'AGAIN'} end

local widths = (#KEYS - 1) / 2
local first = 3 + widths
local count = tonumber(ARGV[first])
local first_bucket = first + 1 + 2 * count
for width = 1, widths do
  local counts, durations, life = KEYS[2 * width], KEYS[2 * width + 1], ARGV[2 + width]
  for i = first + 1, first_bucket - 1, 2 do
    local name, amount = ARGV[i], ARGV[i + 1]
    if string.sub(name, 1, 1) ~= '>' then
      redis.call('HINCRBY', counts, name, amount)
    elseif tonumber(redis.call('HGET', counts, name) or -1) < tonumber(amount) then
      redis.call('HSET', counts, name, amount)
    end
  end
  for i = first_bucket, #ARGV, 2 do
    redis.call('BITFIELD', durations, 'OVERFLOW', 'SAT', 'INCRBY', 'u28', '#' .. ARGV[i], ARGV[i + 1])
  end
  redis.call('PEXPIRE', counts, life)
  redis.call('PEXPIRE', durations, life)
end
redis.call('SET', flushed, number, 'PX', ARGV[2])
return {'OK'}
