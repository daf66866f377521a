-- What is owed to webhooks, for scripts that begin with the prelude.
--
-- A job's _hooks are those that are to be told of it, as webhook_member spells them; most jobs have
-- none. Their keys (keys.py) have the hash tag of the job's, so they lie in its slot.

local MAX_OWED_BYTES = 16777216 -- To one webhook. What is more is only counted: its receiver has been away.

-- Puts a delivery last into the job's lane to a webhook. Returns whether it could.
local function owe(hook, id, event, url, data)
  local key, time = HEAD .. 'webhook:' .. hook, now()
  local entry = id .. ' ' .. event .. ' ' .. int(time) .. ' ' .. url .. '\n' .. data
  local held = redis.call('HMGET', key, 'disabled', 'hold', 'bytes')
  if held[1] then return false end
  if tonumber(held[3] or 0) + #entry > MAX_OWED_BYTES then
    redis.call('HINCRBY', key, 'missed', 1)
    return false
  end
  redis.call('HINCRBY', key, 'bytes', #entry)
  redis.call('RPUSH', HEAD .. 'lane:' .. hook .. ':' .. JOB_ID, entry)
  redis.call('ZADD', HEAD .. 'lanes:' .. hook, 'NX', int(time), JOB_ID)
  redis.call('ZADD', HEAD .. 'webhooks_due', 'LT', int(math.max(time, tonumber(held[2] or 0))), hook)
  return true
end

-- Owes the event to each of the job's webhooks that wants it.
local function tell_webhooks(job, id, event, data)
  local own = redis.call('HMGET', JOB, '_hook_url', '_hook_events')
  for hook in string.gmatch(job.hooks, '%S+') do
    local events, url = redis.call('HGET', HEAD .. 'webhook:' .. hook, 'events'), ''
    -- That of a host: the job says what is sent, and where.
    if events == '' then events, url = own[2] or '', own[1] or '' end
    if events and string.find(' ' .. events .. ' ', ' ' .. event .. ' ', 1, true) then
      owe(hook, id, event, url, data)
    end
  end
end
