-- Makes a job, its first event and its alarm, unless its idempotency key made one already.
--
-- keys: prelude; the owner's bucket; last: the idempotency key, if arg 5 is not ''
-- args: 5 hash of the body with idempotency, or ''; 6 ms until the first alarm; 7 submissions a second
--       that the owner may make, 8 how many at once, 9 how many live jobs it may have (0: no such limit);
--       10 the job whose child it is, or '', 11 that job's fence; 12 ms that it may wait from its time on, or 0;
--       13… the fields of the job that the caller knows, name and value in turn
-- returns: {'created', document, or '' of a foreign job that was sent} | {'same', document, job id}: the
--          key's job, or the one that holds its unique key | {'conflict'}: the key belongs to another body | {'stale'}: another holds the parent,
--          or it ended | {'too_fast', ms until there is a token} | {'too_many'}: live jobs
-- events: state (queued)

-- A retry takes the place of the job that it retries in their group.
local function replace(key)
  local held = redis.call('HMGET', key, 'group', 'state', 'size', '_share', '_replaced')
  if not held[2] or held[5] or held[1] ~= redis.call('HGET', JOB, 'group') then return end
  redis.call('HSET', key, '_replaced', '1')
  local size = tonumber(held[3]) or 1
  change_tally(string.sub(held[2], 2, -2), nil, -size, -size * tonumber(held[4] or 1))
end

local once_hash = ARGV[5]
if once_hash ~= '' then
  local before = redis.call('GET', KEYS[#KEYS])
  if before then
    local hash, id = string.match(before, '^(%S+) (%S+)$')
    local key = key_of(id)
    if redis.call('EXISTS', key) == 1 then
      if hash ~= once_hash then return {'conflict'} end
      return {id == JOB_ID and 'created' or 'same', document(key), id}
    end
  end
end

-- The same creation again: the reply to the first was lost. Or a foreign job that was made by the worker that
-- started it, before it was announced.
if redis.call('EXISTS', JOB) == 1 then return {'created', document()} end

local fields = {}
for i = 13, #ARGV, 2 do fields[ARGV[i]] = ARGV[i + 1] end

-- Whether the job still holds its unique key: until it ends, or only until it begins.
local function holds(key)
  local held = redis.call('HMGET', key, 'state', 'attempt', '_while')
  if not held[1] then return false end
  if held[3] == 'queued' then return held[1] == '"queued"' and held[2] == '0' end
  return not ended({state = string.sub(held[1], 2, -2)})
end

if fields._unique then
  local id = redis.call('GET', unique_key(fields._unique))
  if id and holds(key_of(id)) then
    -- The same request again, as its answer was lost, is answered with the same job even if that has ended.
    if once_hash ~= '' then
      redis.call('SET', KEYS[#KEYS], once_hash .. ' ' .. id, 'EX', RETENTION_S)
    end
    return {'same', document(key_of(id)), id}
  end
end

if ARGV[10] ~= '' then
  local parent = redis.call('HMGET', key_of(ARGV[10]), 'state', '_fence')
  if parent[1] ~= '"running"' or parent[2] ~= ARGV[11] then return {'stale'} end
  redis.call('HSET', key_of(ARGV[10]), '_children', '1')
end

local live = tonumber(ARGV[9])
if live > 0 and redis.call('ZCARD', INDEX['queued']) + redis.call('ZCARD', INDEX['retrying'])
    + redis.call('ZCARD', INDEX['running']) + redis.call('ZCARD', INDEX['waiting']) >= live then
  return {'too_many'}
end
local rate, burst = tonumber(ARGV[7]), tonumber(ARGV[8])
if rate > 0 then
  local bucket = KEYS[#KEYS - (once_hash ~= '' and 1 or 0)]
  local wait = take_token(bucket, 'tokens', 'at', rate, burst)
  if wait then return {'too_fast', wait} end
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
  '_score', score, '_fence', '0', '_sends', '0', unpack(ARGV, 13))
if fields._unique then redis.call('SET', unique_key(fields._unique), JOB_ID) end
open_tally()
redis.call('ZADD', ALL_JOBS, score, JOB_ID)
redis.call('ZADD', INDEX['queued'], score, JOB_ID)
local hooks = redis.call('HGET', JOB, '_hooks')
local known = redis.call('HGETALL', HEAD .. 'webhooks:' .. OWNER)
for i = 1, #known, 2 do
  if known[i + 1] == '1' then hooks = (hooks and hooks .. ' ' or '') .. OWNER .. ':' .. known[i] end
end
if hooks then redis.call('HSET', JOB, '_hooks', hooks) end
if GROUP_JOBS then
  redis.call('ZADD', GROUP_JOBS, score, JOB_ID)
  redis.call('PERSIST', TALLY)
  change_tally(nil, 'queued', tonumber(redis.call('HGET', JOB, 'size')) or 1, 0)
  local old = string.match(redis.call('HGET', JOB, 'retry_of') or '', '^"(.+)"$')
  if old then replace(key_of(old)) end
  settle_group()
end
-- A foreign job whose message was sent needs none of ours.
local sent = fields._sent ~= nil
local begins = tonumber(fields._not_before) or 0
local look, expires = ms + tonumber(ARGV[6]), nil
if tonumber(ARGV[12]) > 0 then
  expires = math.max(ms, begins) + tonumber(ARGV[12])
  redis.call('HSET', JOB, '_expires', int(expires), 'expires_at', '"' .. rfc3339(expires) .. '"')
end
if sent then
  redis.call('HSET', JOB, '_give_up', int(look))
elseif begins > ms then
  -- Its alarm puts it into the line.
  redis.call('ZADD', WAITING, int(NOT_YET + begins), JOB_ID)
  look = begins
else
  join_line()
end
look_at({expires = expires}, look)
emit({last = '0-0', attempt = '0', hooks = hooks}, id, 'state',
  with_head({attempt = '0'}, rfc3339(ms), state_body('queued')))
return {'created', sent and '' or document()}
