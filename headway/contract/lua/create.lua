-- Makes a job, its first event and its alarm, unless its idempotency key made one already.
--
-- keys: prelude; the owner's bucket; last: the idempotency key, if arg 5 is not ''
-- args: 5 hash of the body with idempotency, or ''; 6 ms until the first alarm; 7 submissions a second
--       that the owner may make, 8 how many at once, 9 how many live jobs it may have (0: no such limit);
--       10 the job whose child it is, or '', 11 that job's fence; 12 ms that it may wait from its time on, or 0;
--       13… the fields of the job that the caller knows, name and value in turn
-- returns: {'created', document} | {'same', document, job id}: the key's job, or the one that holds its unique
--          key | {'conflict'}: the key belongs to another body | {'stale'}: another holds the parent, or it ended
--          | {'too_fast', ms until there is a token} | {'too_many'}: live jobs
-- events: state (queued)

--@include creation.lua

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

local fields = {}
for i = 13, #ARGV, 2 do fields[ARGV[i]] = ARGV[i + 1] end

local holder = holder_of(fields._unique)
if holder then
  -- The same request again, as its answer was lost, is answered with the same job even if that has ended.
  -- It is no retry of another job, which may still be asked for.
  if once_hash ~= '' and (fields.retry_of or 'null') == 'null' then
    redis.call('SET', KEYS[#KEYS], once_hash .. ' ' .. holder, 'EX', RETENTION_S)
  end
  return {'same', document(key_of(holder)), holder}
end

if ARGV[10] ~= '' then
  local parent = redis.call('HMGET', key_of(ARGV[10]), 'state', '_fence')
  if parent[1] ~= '"running"' or parent[2] ~= ARGV[11] then return {'stale'} end
  redis.call('HSET', key_of(ARGV[10]), '_children', '1')
end

local refusal = refuse(tonumber(ARGV[9]), tonumber(ARGV[7]), tonumber(ARGV[8]),
  KEYS[#KEYS - (once_hash ~= '' and 1 or 0)], 1)
if refusal then return refusal end
-- It goes with its job (sweep.lua).
if once_hash ~= '' then redis.call('SET', KEYS[#KEYS], once_hash .. ' ' .. JOB_ID) end
make({unpack(ARGV, 13)}, fields, tonumber(ARGV[6]), tonumber(ARGV[12]))
return {'created', document()}
