#!lua flags=allow-oom
-- Admission of a creation, in one command: every limit is checked before any is charged. Claims its key.
--
-- KEYS     queue, unfinished_of, owned, stored, stored_until, rate, claim, generations, parked_counts, use, reserved, reserved_until, outputs
-- ARGV     cost of the request (units; 0: it is not counted), ms a unit, burst (ms), claim of the Idempotency-Key ('':
--          there is no key), life of the claim (s), 1: replace an earlier claim, limits (JSON, `queue.quotas.Terms`; '':
--          none)
-- Answers  OK jobs that wait, generations of the caller that wait or run, bytes that are stored for the caller, ms until
--          the request would be within the limits (0: it is, or the time is not known), the earlier claim (nil: there
--          was none), the first limit that refuses the request ('': none), tokens of this minute, then the tokens and
--          the cost of this day and of this month, reserved ones included, as integers
--          | FULL
--
-- FULL: the server has no room for a claim, so that a repeat of the request would not be recognized.
-- A request that is refused is not charged, and makes no claim: otherwise refused requests would fill the server, at 256
-- bytes each for hours. An earlier claim is read all the same: a repeat is served. It is counted as a request, and
-- reserves nothing: the first call has.
-- The rate of requests is GCRA: `rate` holds the time at which all counted requests are paid for, which may be `burst`
-- ahead, the time of the last charge, and the ms a unit that it was computed with. That of tokens is the same, kept as
-- the tokens that are not paid for yet: a request passes where its reservation fits into the limit, or where nothing is
-- owed. A limit may change: what is owed is paid at the faster of two rates, that of the last charge and that of now. So
-- a raised limit holds at once, and a lowered one makes no new debt of what was within the limit of its time.
-- A request reserves its input, and for each choice
-- the least of its own limit and of what nine of ten outputs of the caller and the model had (an upper bound, within a
-- factor of 1.42). A budget refuses once it is spent, or reserved by what runs. `settle` replaces a reservation by what
-- was used. One whose generation was never settled leaves at its deadline. The same generation reserves once.
-- Up to 500 generations that are no longer kept leave the sum and both lists: a caller may create many that are kept for
-- seconds, and never read the list. No flag but allow-oom: a full server must refuse by admission, which names the
-- reason.
local queue, unfinished_of, owned, stored, stored_until = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local rate, claim, generations, parked_counts = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local use, reserved, reserved_until, outputs = KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local units, interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local value, life, replaces = ARGV[4], ARGV[5], ARGV[6] == '1'
local limits = ARGV[7] ~= '' and cjson.decode(ARGV[7]) or {}
local wish = limits.reservation

local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local refused, wait = '', 0

local function refuse(limit, ms)
  if refused == '' then refused, wait = limit, math.max(0, math.ceil(ms)) end
end

local function sum_of(hash, ids)
  local first, second = 0, 0
  for _, known in ipairs(redis.call('HMGET', hash, unpack(ids))) do
    local one, other = string.match(known or '0+0', '^(%d+)%+(%d+)$')
    first, second = first + one, second + other
  end
  return first, second
end

-- What is over leaves the sums.
local expired = redis.call('ZRANGEBYSCORE', stored_until, '-inf', string.format('%.0f', now), 'LIMIT', 0, 500)
if #expired > 0 then
  local request, output = sum_of(stored, expired)
  if request + output > 0 then redis.call('HINCRBY', stored, '', string.format('%.0f', 0 - request - output)) end
  redis.call('HDEL', stored, unpack(expired))
  redis.call('ZREM', stored_until, unpack(expired))
  redis.call('ZREM', owned, unpack(expired))
  redis.call('ZREM', generations, unpack(expired))
end
local late = redis.call('ZRANGEBYSCORE', reserved_until, '-inf', string.format('%.0f', now), 'LIMIT', 0, 500)
if #late > 0 then
  local tokens, dollars = sum_of(reserved, late)
  redis.call('HINCRBY', use, 'held_tokens', string.format('%.0f', 0 - tokens))
  redis.call('HINCRBY', use, 'held_cost', string.format('%.0f', 0 - dollars))
  redis.call('HDEL', reserved, unpack(late))
  redis.call('ZREM', reserved_until, unpack(late))
end

-- What the request would reserve, and what is used.
local function output_estimate()
  local counts, total, seen = {}, 0, 0
  for count in string.gmatch(redis.call('HGET', outputs, wish.model) or '', '%d+') do
    counts[#counts + 1] = tonumber(count)
    total = total + count
  end
  local estimate = wish.max_output > 0 and wish.max_output or wish.usual_output
  for bucket, count in ipairs(counts) do
    seen = seen + count
    if seen >= 0.9 * total then
      estimate = math.ceil(2 ^ (bucket / 2))
      break
    end
  end
  if wish.max_output > 0 then estimate = math.min(estimate, wish.max_output) end
  return estimate
end

local tokens, dollars, is_repeated = 0, 0, false
local level, held = 0, {tokens = 0, cost = 0}
local spent = {day_tokens = 0, day_cost = 0, month_tokens = 0, month_cost = 0}
local ends = {}
if wish then
  local output = output_estimate() * wish.choices
  tokens = wish.input + output
  dollars = math.ceil(wish.input * wish.input_price + output * wish.output_price)
  is_repeated = redis.call('HEXISTS', reserved, wish.generation_id) == 1
  local known = redis.call(
    'HMGET', use, 'level', 'at', 'rate', 'held_tokens', 'held_cost', 'day_ends', 'month_ends',
    'day_tokens', 'day_cost', 'month_tokens', 'month_cost')
  for index = 1, #known do known[index] = tonumber(known[index] or 0) end
  local paid = (now - known[2]) * math.max(known[3], wish.tokens_per_minute / 60000)
  level = wish.tokens_per_minute > 0 and math.max(0, known[1] - paid) or 0
  held.tokens, held.cost, ends.day, ends.month = known[4], known[5], known[6], known[7]
  if now < ends.day then spent.day_tokens, spent.day_cost = known[8], known[9] end
  if now < ends.month then spent.month_tokens, spent.month_cost = known[10], known[11] end
end

-- Every limit.
local paid_at = now
if units > 0 then
  local known_at, charged_at, known_interval = string.match(redis.call('GET', rate) or '', '^(%S+) (%S+) (%S+)$')
  if known_at then
    paid_at = charged_at + (known_at - charged_at) * math.min(1, interval / known_interval)
    paid_at = math.max(paid_at, now)
  end
  if paid_at - now > burst then refuse('requests', paid_at - now - burst) end
end
local is_within_rate = refused == ''
local depth, own = redis.call('ZCARD', queue), redis.call('ZCARD', unfinished_of)
for _, parked in ipairs(redis.call('HVALS', parked_counts)) do depth = depth + parked end
local bytes = tonumber(redis.call('HGET', stored, '') or 0)
if limits.max_queued and depth >= limits.max_queued then refuse('queue', 0) end
if limits.max_unfinished and own >= limits.max_unfinished then refuse('unfinished', 0) end
if limits.max_stored_bytes and bytes + (limits.body_bytes or 0) > limits.max_stored_bytes then refuse('stored', 0) end
if limits.is_full then refuse('memory', 0) end
if wish then
  local limit = wish.tokens_per_minute
  local beyond = level + math.min(tokens, limit) - limit
  if limit > 0 and beyond > 0 then refuse('tokens', beyond * 60000 / limit) end
  for _, period in ipairs({'day', 'month'}) do
    for _, unit in ipairs({'tokens', 'cost'}) do
      local name = period .. '_' .. unit
      local budget = wish.budgets[name]
      if budget > 0 and spent[name] + held[unit] >= budget then
        refuse(name, spent[name] >= budget and ends[period] - now or 0)
      end
    end
  end
end
if is_repeated then refused, wait = '', 0 end

local earlier = value ~= '' and not replaces and redis.call('GET', claim)
if value ~= '' and not earlier and refused == '' then
  local memory = redis.call('INFO', 'memory')
  local used, limit = string.match(memory, 'used_memory:(%d+)'), tonumber(string.match(memory, '\nmaxmemory:(%d+)') or 0)
  if limit > 0 and tonumber(used) >= limit then return {'FULL'} end
  redis.call('SET', claim, value, 'EX', life)
end

-- The charges.
if units > 0 and not is_repeated and (refused == '' or (earlier and is_within_rate)) then
  paid_at = paid_at + units * interval
  redis.call('SET', rate, string.format('%.3f %.3f %.9f', paid_at, now, interval), 'PX', math.ceil(paid_at - now) + 1)
end
if wish and refused == '' and not earlier and not is_repeated then
  if wish.tokens_per_minute > 0 then level = level + tokens end
  held.tokens, held.cost = held.tokens + tokens, held.cost + dollars
  redis.call('HSET', use, 'level', string.format('%.3f', level), 'at', string.format('%.3f', now),
    'rate', string.format('%.9f', wish.tokens_per_minute / 60000))
  redis.call('HINCRBY', use, 'held_tokens', string.format('%.0f', tokens))
  redis.call('HINCRBY', use, 'held_cost', string.format('%.0f', dollars))
  redis.call('HSET', reserved, wish.generation_id, string.format('%.0f+%.0f', tokens, dollars))
  redis.call('ZADD', reserved_until, string.format('%.0f', now + wish.hold), wish.generation_id)
  for _, name in ipairs({use, reserved, reserved_until}) do redis.call('PEXPIRE', name, wish.life) end
end

local reply = {'OK', depth, own, bytes, wait, earlier, refused, math.ceil(level)}
for _, period in ipairs({'day', 'month'}) do
  for _, unit in ipairs({'tokens', 'cost'}) do
    reply[#reply + 1] = string.format('%.0f', spent[period .. '_' .. unit] + held[unit])
  end
end
return reply
