-- Makes a job, its first event and its alarm, unless its idempotency key made one already.
--
-- keys: prelude; the owner's bucket; last: the idempotency key, if arg 5 is not ''
-- args: 5 hash of the body with idempotency, or ''; 6 ms until the first alarm; 7 submissions a second
--       that the owner may make, 8 how many at once, 9 how many live jobs it may have (0: no such limit);
--       10… the fields of the job that the caller knows, name and value in turn
-- returns: {'created', document} | {'same', document, job id}: the key's job | {'conflict'}: the key belongs
--          to another body | {'too_fast', ms until there is a token} | {'too_many'}: live jobs
-- events: state (queued)

local once_hash = ARGV[5]
if once_hash ~= '' then
  local before = redis.call('GET', KEYS[#KEYS])
  if before then
    -- The key of the job is not declared; it has the same hash tag, so it lies in the same slot.
    local hash, id = string.match(before, '^(%S+) (%S+)$')
    local key = string.sub(JOB, 1, -#JOB_ID - 1) .. id
    if redis.call('EXISTS', key) == 1 then
      if hash ~= once_hash then return {'conflict'} end
      return {id == JOB_ID and 'created' or 'same', document(key), id}
    end
  end
end

-- The same creation again: the reply to the first was lost.
if redis.call('EXISTS', JOB) == 1 then return {'created', document()} end

local live = tonumber(ARGV[9])
if live > 0 and redis.call('ZCARD', INDEX['queued']) + redis.call('ZCARD', INDEX['retrying'])
    + redis.call('ZCARD', INDEX['running']) >= live then
  return {'too_many'}
end
local rate, burst = tonumber(ARGV[7]), tonumber(ARGV[8])
if rate > 0 then
  local bucket = KEYS[#KEYS - (once_hash ~= '' and 1 or 0)]
  local time = now()
  local known = redis.call('HMGET', bucket, 'tokens', 'at')
  local tokens = math.min(burst, tonumber(known[1] or burst)
    + math.max(0, time - tonumber(known[2] or time)) * rate / 1000)
  if tokens < 1 then return {'too_fast', math.ceil((1 - tokens) * 1000 / rate)} end
  redis.call('HSET', bucket, 'tokens', tostring(tokens - 1), 'at', int(time))
  redis.call('PEXPIRE', bucket, math.ceil(burst * 1000 / rate))
end

local id, ms, n = tick()
local at = '"' .. rfc3339(ms) .. '"'
-- The listing's order. 4096 ids a millisecond keep it unique and below 2^53.
local score = int(ms * 4096 + n % 4096)
if once_hash ~= '' then
  -- It goes with its job (sweep.lua).
  redis.call('SET', KEYS[#KEYS], once_hash .. ' ' .. JOB_ID)
end
redis.call('HSET', JOB, 'state', '"queued"', 'attempt', '0', 'artifacts', '[]',
  'cancel_requested', 'false', 'created_at', at, 'updated_at', at, 'last_event_id', '"' .. id .. '"',
  '_score', score, '_fence', '0', '_sends', '0', unpack(ARGV, 10))
redis.call('ZADD', ALL_JOBS, score, JOB_ID)
redis.call('ZADD', INDEX['queued'], score, JOB_ID)
if GROUP_JOBS then redis.call('ZADD', GROUP_JOBS, score, JOB_ID) end
local owner = string.sub(ALL_JOBS, #HEAD + #'jobs:' + 1)
local hooks = redis.call('HGET', JOB, '_hooks')
local known = redis.call('HGETALL', HEAD .. 'webhooks:' .. owner)
for i = 1, #known, 2 do
  if known[i + 1] == '1' then hooks = (hooks and hooks .. ' ' or '') .. owner .. ':' .. known[i] end
end
if hooks then redis.call('HSET', JOB, '_hooks', hooks) end
join_line()
set_alarm(ms + tonumber(ARGV[6]))
emit({last = '0-0', attempt = '0', hooks = hooks}, id, 'state',
  with_head({attempt = '0'}, rfc3339(ms), state_body('queued')))
return {'created', document()}
