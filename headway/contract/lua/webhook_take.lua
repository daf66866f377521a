-- Takes the next webhook to which something is due, so that nobody else sends to it meanwhile. What is owed to
-- webhooks that are gone or disabled is removed on the way.
--
-- keys: 1 webhooks_due; the others (keys.py) lie in its slot
-- args: 1 lease in ms, 2 how many jobs' deliveries at most, 3 '1' to pass over webhooks that keep failing,
--       4 failures in a row from which a webhook keeps failing
-- returns: {webhook_member, token, '1' if it keeps failing, url, secrets,
--          then for each delivery: job id, tries, entry} | {}

local DUE = KEYS[1]
local HEAD = string.sub(DUE, 1, -#'webhooks_due' - 1)
local DROPPED = 500 -- Lanes removed at once, so that nobody waits for long.

-- Of which no id is asked.
local CLOCK
--@include clock.lua

local function drop(hook)
  local lanes = HEAD .. 'lanes:' .. hook
  for _, job in ipairs(redis.call('ZRANGE', lanes, 0, DROPPED - 1)) do
    redis.call('DEL', HEAD .. 'lane:' .. hook .. ':' .. job)
    redis.call('ZREM', lanes, job)
  end
  if redis.call('EXISTS', lanes) == 1 then return end
  redis.call('ZREM', DUE, hook)
  redis.call('DEL', HEAD .. 'tries:' .. hook)
  if redis.call('EXISTS', HEAD .. 'webhook:' .. hook) == 1 then
    redis.call('HDEL', HEAD .. 'webhook:' .. hook, 'bytes')
  end
end

local time = now()
for _, hook in ipairs(redis.call('ZRANGE', DUE, '-inf', int(time), 'BYSCORE', 'LIMIT', 0, 100)) do
  local key, lanes = HEAD .. 'webhook:' .. hook, HEAD .. 'lanes:' .. hook
  local held = redis.call('HMGET', key, 'url', 'secrets', 'disabled', 'fails')
  local failing = tonumber(held[4] or 0) >= tonumber(ARGV[4])
  if not held[2] or held[3] then
    drop(hook)
  elseif failing and ARGV[3] == '1' then
    -- Behind the others.
    redis.call('ZADD', DUE, int(time + 1000), hook)
  else
    local jobs = redis.call('ZRANGE', lanes, '-inf', int(time), 'BYSCORE', 'LIMIT', 0, failing and 1 or ARGV[2])
    if #jobs == 0 then
      local first = redis.call('ZRANGE', lanes, 0, 0, 'WITHSCORES')
      if first[2] then redis.call('ZADD', DUE, first[2], hook) else redis.call('ZREM', DUE, hook) end
    else
      local token = int(time + tonumber(ARGV[1]))
      redis.call('HSET', key, 'hold', token)
      redis.call('ZADD', DUE, token, hook)
      local reply = {hook, token, failing and '1' or '', held[1] or '', held[2]}
      for _, job in ipairs(jobs) do
        reply[#reply + 1] = job
        reply[#reply + 1] = redis.call('HGET', HEAD .. 'tries:' .. hook, job) or '0'
        reply[#reply + 1] = redis.call('LINDEX', HEAD .. 'lane:' .. hook .. ':' .. job, 0)
      end
      return reply
    end
  end
end
return {}
