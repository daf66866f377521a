-- Makes a job, its first event and its alarm. For scripts that include the prelude.

local hooks_of_all -- The owner's webhooks that are told of all jobs, once this script has looked.

local function hooks_for(own)
  if hooks_of_all == nil then
    hooks_of_all = ''
    local owner = string.sub(ALL_JOBS, #HEAD + #'jobs:' + 1)
    local known = redis.call('HGETALL', HEAD .. 'webhooks:' .. owner)
    for i = 1, #known, 2 do
      if known[i + 1] == '1' then hooks_of_all = hooks_of_all .. ' ' .. owner .. ':' .. known[i] end
    end
  end
  local hooks = (own or '') .. hooks_of_all
  if hooks == '' then return nil end
  return own and hooks or string.sub(hooks, 2)
end

-- A retry takes the place of the job that it retries in their group.
local function replace(key)
  local held = redis.call('HMGET', key, 'group', 'state', 'size', '_share', '_replaced')
  if not held[2] or held[5] or held[1] ~= redis.call('HGET', JOB, 'group') then return end
  redis.call('HSET', key, '_replaced', '1')
  local size = tonumber(held[3]) or 1
  change_tally(GROUPS[1], string.sub(held[2], 2, -2), nil, -size, -size * tonumber(held[4] or 1))
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

-- The job is the one that JOB names; `fields` are those that the caller knows, name and value in turn. Returns
-- whether it is a foreign job whose message was sent.
local function make(first_alarm_ms, fields)
  local id, ms, n = tick()
  local at = '"' .. rfc3339(ms) .. '"'
  -- The listing's order. 4096 ids a millisecond keep it unique and below 2^53.
  local score = int(ms * 4096 + n % 4096)
  local known = {}
  for i = 1, #fields, 2 do known[fields[i]] = fields[i + 1] end
  local hooks = hooks_for(known._hooks)
  -- A foreign job whose message was sent needs none of ours.
  local sent = known._sent ~= nil
  for _, part in ipairs({'state', '"queued"', 'attempt', '0', 'artifacts', '[]', 'cancel_requested', 'false',
      'created_at', at, 'updated_at', at, 'last_event_id', '"' .. id .. '"', '_score', score, '_fence', '0',
      '_sends', '0'}) do
    fields[#fields + 1] = part
  end
  if hooks then
    fields[#fields + 1] = '_hooks'
    fields[#fields + 1] = hooks
  end
  if sent then
    fields[#fields + 1] = '_give_up'
    fields[#fields + 1] = int(ms + first_alarm_ms)
  end
  redis.call('HSET', JOB, unpack(fields))
  open_tallies()
  redis.call('ZADD', ALL_JOBS, score, JOB_ID)
  redis.call('ZADD', INDEX['queued'], score, JOB_ID)
  local old = string.match(known.retry_of or '', '^"(.+)"$')
  for i, group in ipairs(GROUPS) do
    redis.call('ZADD', group.jobs, score, JOB_ID)
    redis.call('PERSIST', group.tally)
    change_tally(group, nil, 'queued', tonumber(known.size) or 1, 0)
    if old and i == 1 then replace(key_of(old)) end
    settle_group(group)
  end
  local parent = string.match(known.parent or '', '^"(.+)"$')
  if parent and known._foreign then adopt(parent, ms) end
  if not sent then
    join_line()
  elseif old and redis.call('EXISTS', key_of(old)) == 1 then
    -- The task came again. What it does next is done for this job.
    redis.call('HSET', key_of(old), '_again', JOB_ID)
  end
  set_alarm(ms + first_alarm_ms)
  emit({last = '0-0', attempt = '0', hooks = hooks}, id, 'state',
    with_head({attempt = '0'}, rfc3339(ms), state_body('queued')))
  return sent
end
