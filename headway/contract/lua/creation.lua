-- Making a job, for scripts that begin with the prelude.

-- A retry takes the place of the job that it retries in their group.
local function replace(key)
  local held = redis.call('HMGET', key, 'group', 'state', 'size', '_share', '_replaced')
  if not held[2] or held[5] or held[1] ~= redis.call('HGET', JOB, 'group') then return end
  redis.call('HSET', key, '_replaced', '1')
  local size = tonumber(held[3]) or 1
  change_tally(GROUPS[1], string.sub(held[2], 2, -2), nil, -size, -size * tonumber(held[4] or 1))
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

local hooks_of_all -- The owner's webhooks that are told of all jobs, once this script has looked.

-- The webhooks that are told of a job which has these of its own, or nil.
local function hooks_for(own)
  if not hooks_of_all then
    hooks_of_all = {}
    local known = redis.call('HGETALL', HEAD .. 'webhooks:' .. OWNER)
    for i = 1, #known, 2 do
      if known[i + 1] == '1' then hooks_of_all[#hooks_of_all + 1] = OWNER .. ':' .. known[i] end
    end
  end
  local hooks = table.concat(hooks_of_all, ' ')
  if own then hooks = hooks == '' and own or own .. ' ' .. hooks end
  return hooks ~= '' and hooks or nil
end

-- Notes that a task of another system has sent the job's.
local function adopt(parent, ms)
  local key = key_of(parent)
  local held = redis.call('HMGET', key, 'state', 'cancel_requested', '_children')
  if not held[1] then return end
  if not held[3] then redis.call('HSET', key, '_children', '1') end
  -- It was canceled, and went on for a moment.
  if held[1] == '"canceled"' and held[2] == 'true' then redis.call('ZADD', ORPHANS, int(ms), parent) end
end

-- Makes the job, its first event and its alarm. `given` has the fields that the caller knows, name and value in
-- turn, `fields` the same by name; `expires_ms` is how long it may wait from its time on, or 0.
local function make(given, fields, first_alarm_ms, expires_ms)
  local id, ms, n = tick()
  local at = '"' .. rfc3339(ms) .. '"'
  -- The listing's order: unique, and below 2^53.
  local score = int(ms * IDS_PER_MS + n % IDS_PER_MS)
  local hooks = hooks_for(fields._hooks)
  -- A foreign job whose message was sent needs none of ours.
  local sent = fields._sent ~= nil
  local begins = tonumber(fields._not_before) or 0
  local look, expires = ms + first_alarm_ms, nil
  local function add(...)
    for _, part in ipairs({...}) do given[#given + 1] = part end
  end
  add('state', '"queued"', 'attempt', '0', 'artifacts', '[]', 'cancel_requested', 'false', 'created_at', at,
    'updated_at', at, 'last_event_id', '"' .. id .. '"', '_score', score, '_fence', '0', '_sends', '0',
    '_counted', fields.type)
  if hooks then add('_hooks', hooks) end
  if sent then add('_give_up', int(look)) end
  if expires_ms > 0 then
    expires = math.max(ms, begins) + expires_ms
    add('_expires', int(expires), 'expires_at', '"' .. rfc3339(expires) .. '"')
  end
  redis.call('HSET', JOB, unpack(given))
  if fields._unique then redis.call('SET', unique_key(fields._unique), JOB_ID) end
  open_tallies()
  redis.call('ZADD', ALL_JOBS, score, JOB_ID)
  redis.call('ZADD', INDEX['queued'], score, JOB_ID)
  count(fields.type, nil, 'queued')
  local old = string.match(fields.retry_of or '', '^"(.+)"$')
  for i, group in ipairs(GROUPS) do
    redis.call('ZADD', group.jobs, score, JOB_ID)
    redis.call('PERSIST', group.tally)
    change_tally(group, nil, 'queued', tonumber(fields.size) or 1, 0)
    if old and i == 1 then replace(key_of(old)) end
    settle_group(group)
  end
  local parent = string.match(fields.parent or '', '^"(.+)"$')
  if parent and fields._foreign then adopt(parent, ms) end
  if sent then
    -- The task came again. What it does next is done for this job.
    if old and redis.call('EXISTS', key_of(old)) == 1 then redis.call('HSET', key_of(old), '_again', JOB_ID) end
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
end
