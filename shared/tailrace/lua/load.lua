#!lua flags=allow-oom
-- What admission decides by, in one command; counts the request against its caller's rate, and claims its key.
--
-- KEYS     queue, unfinished_of, owned, stored, stored_until, rate, claim, generations, parked_counts
-- ARGV     cost of the request, burst (ms each; a cost of 0 is not counted), claim of the Idempotency-Key ('': there is
--          no key), life of the claim (s), 1: replace an earlier claim
-- Answers  OK jobs that wait, generations of the caller that wait or run, bytes that are stored for the caller, ms until
--          the request would be within the rate (0: it is, and was counted), the earlier claim (nil: there was none)
--          | FULL
--
-- FULL: the server has no room for a claim, so that a repeat of the request would not be recognized.
-- The rate is GCRA: `rate` holds the time at which all counted requests are paid for, and may be `burst` ahead. A request
-- that is refused is not counted, and makes no claim: otherwise refused requests would fill the server, at 256 bytes each
-- for hours. An earlier claim is read all the same: a repeat is served. Up to 500 generations that are no longer kept leave
-- the sum and both lists: a caller may create many that are kept for seconds, and never read the list. No flag but
-- allow-oom: a full server must refuse by admission, which names the reason.
local queue, unfinished_of, owned, stored, stored_until = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local rate, claim, generations = KEYS[6], KEYS[7], KEYS[8]
local cost, burst, value, life = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]

local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local expired = redis.call('ZRANGEBYSCORE', stored_until, '-inf', string.format('%.0f', now), 'LIMIT', 0, 500)
if #expired > 0 then
  local sum = 0
  for _, known in ipairs(redis.call('HMGET', stored, unpack(expired))) do
    local request, output = string.match(known or '0+0', '^(%d+)%+(%d+)$')
    sum = sum + request + output
  end
  if sum > 0 then redis.call('HINCRBY', stored, '', string.format('%.0f', 0 - sum)) end
  redis.call('HDEL', stored, unpack(expired))
  redis.call('ZREM', stored_until, unpack(expired))
  redis.call('ZREM', owned, unpack(expired))
  redis.call('ZREM', generations, unpack(expired))
end

local wait = 0
if cost > 0 then
  local paid_at = math.max(tonumber(redis.call('GET', rate) or 0), now)
  wait = math.max(0, math.ceil(paid_at - now - burst))
  if wait == 0 then
    redis.call('SET', rate, string.format('%.3f', paid_at + cost), 'PX', math.ceil(paid_at + cost - now) + 1)
  end
end

local earlier = value ~= '' and ARGV[5] ~= '1' and redis.call('GET', claim)
if value ~= '' and not earlier and wait == 0 then
  local memory = redis.call('INFO', 'memory')
  local used, limit = string.match(memory, 'used_memory:(%d+)'), tonumber(string.match(memory, '\nmaxmemory:(%d+)') or 0)
  if limit > 0 and tonumber(used) >= limit then return {'FULL'} end
  redis.call('SET', claim, value, 'EX', life)
end
local bytes = tonumber(redis.call('HGET', stored, '') or 0)
local depth = redis.call('ZCARD', queue)
for _, parked in ipairs(redis.call('HVALS', KEYS[9])) do depth = depth + parked end
return {'OK', depth, redis.call('ZCARD', unfinished_of), bytes, wait, earlier}
