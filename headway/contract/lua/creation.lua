-- Making a job, for scripts that begin with the prelude.

-- A retry takes the place of the job that it retries in their group.
local function replace(key)
  local held = redis.call('HMGET', key, 'group', 'state', 'size', '_share', '_replaced')
  if not held[2] or held[5] or held[1] ~= redis.call('HGET', JOB, 'group') then return end
  redis.call('HSET', key, '_replaced', '1')
  local size = tonumber(held[3]) or 1
  change_tally(string.sub(held[2], 2, -2), nil, -size, -size * tonumber(held[4] or 1))
end

-- Whether the job still holds its unique key: until it ends, or only until it begins.
local function holds(key)
  local held = redis.call('HMGET', key, 'state', 'attempt', '_while')
  if not held[1] then return false end
  if held[3] == 'queued' then return held[1] == '"queued"' and held[2] == '0' end
  return not ended({state = string.sub(held[1], 2, -2)})
end

-- The job of the owner's that holds a unique key (hashed), or nil.
local function holder_of(unique)
  local id = unique and redis.call('GET', unique_key(unique))
  return id and holds(key_of(id)) and id or nil
end

-- Whether the owner may make `count` more jobs: nil, or what the script returns then. It has spent its tokens.
-- With more than may be made at once the bucket is in debt afterwards.
local function refuse(live, rate, burst, bucket, count)
  if live > 0 and redis.call('ZCARD', INDEX['queued']) + redis.call('ZCARD', INDEX['retrying'])
      + redis.call('ZCARD', INDEX['running']) + redis.call('ZCARD', INDEX['waiting']) + count > live then
    return {'too_many'}
  end
  if rate > 0 then
    local wait = take_token(bucket, 'tokens', 'at', rate, burst, count)
    if wait then return {'too_fast', wait} end
    redis.call('PEXPIRE', bucket, math.ceil((burst + count) * 1000 / rate))
  end
end

-- Makes the job, its first event and its alarm. `given` has the fields that the caller knows, name and value in
-- turn, `fields` the same by name; `expires_ms` is how long it may wait from its time on, or 0. Returns whether
-- it is a foreign job that was sent.
local function make(given, fields, first_alarm_ms, expires_ms)
  local id, ms, n = tick()
  local at = '"' .. rfc3339(ms) .. '"'
  -- The listing's order. 4096 ids a millisecond keep it unique and below 2^53.
  local score = int(ms * 4096 + n % 4096)
  redis.call('HSET', JOB, 'state', '"queued"', 'attempt', '0', 'artifacts', '[]',
    'cancel_requested', 'false', 'created_at', at, 'updated_at', at, 'last_event_id', '"' .. id .. '"',
    '_score', score, '_fence', '0', '_sends', '0', '_counted', fields.type, unpack(given))
  if fields._unique then redis.call('SET', unique_key(fields._unique), JOB_ID) end
  open_tally()
  redis.call('ZADD', ALL_JOBS, score, JOB_ID)
  redis.call('ZADD', INDEX['queued'], score, JOB_ID)
  count(fields.type, nil, 'queued')
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
  local look, expires = ms + first_alarm_ms, nil
  if expires_ms > 0 then
    expires = math.max(ms, begins) + expires_ms
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
  return sent
end
