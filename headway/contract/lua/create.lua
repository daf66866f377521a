-- Makes a job, its first event and its alarm, unless its idempotency key made one already.
--
-- keys: prelude; the owner's bucket; last: the idempotency key, if arg 5 is not ''
-- args: 5 hash of the body with idempotency, or ''; 6 ms until the first alarm; 7 submissions a second
--       that the owner may make, 8 how many at once, 9 how many live jobs it may have (0: no such limit);
--       10 the job whose child it is, or '', 11 that job's fence;
--       12… the fields of the job that the caller knows, name and value in turn
-- returns: {'created', document} | {'same', document, job id}: the
--          key's job | {'conflict'}: the key belongs to another body | {'stale'}: another holds the parent,
--          or it ended | {'too_fast', ms until there is a token} | {'too_many'}: live jobs
-- events: state (queued)

--@include make.lua

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

-- The same creation again: the reply to the first was lost.
if redis.call('EXISTS', JOB) == 1 then return {'created', document()} end

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

if once_hash ~= '' then
  -- It goes with its job (sweep.lua).
  redis.call('SET', KEYS[#KEYS], once_hash .. ' ' .. JOB_ID)
end
make(tonumber(ARGV[6]), {unpack(ARGV, 12)})
return {'created', document()}
