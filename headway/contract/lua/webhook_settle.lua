-- Notes what came of the deliveries of a webhook that was taken, and lets go of it.
--
-- keys: 1 webhooks_due; the others (keys.py) lie in its slot
-- args: 1 webhook_member, 2 token, 3 ms for which the receiver asked to be left alone, 4 failures in a row from
--       which a webhook keeps failing, 5 ms of nothing but failures after which it is disabled, 6 length of the
--       log, then for each delivery: job id, the beginning of its entry, outcome (delivered, failed, given_up,
--       gone), ms until the next try, record of the log (text of a JSON object)
-- returns: {why it was disabled just now, or ''}

local DUE, HOOK = KEYS[1], ARGV[1]
local HEAD = string.sub(DUE, 1, -#'webhooks_due' - 1)
local KEY, LANES, TRIES = HEAD .. 'webhook:' .. HOOK, HEAD .. 'lanes:' .. HOOK, HEAD .. 'tries:' .. HOOK
local SENT = HEAD .. 'sent:' .. HOOK
local FAILING = tonumber(ARGV[4])
local LONGEST_PAUSE = 600000

-- Of which no id is asked.
local CLOCK
--@include clock.lua

-- It was removed meanwhile.
if redis.call('HEXISTS', KEY, 'secrets') == 0 then return {''} end
local time = now()
local why = ''

for i = 7, #ARGV, 5 do
  local job, mark, outcome, delay, record = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local lane = HEAD .. 'lane:' .. HOOK .. ':' .. job
  local entry = redis.call('LINDEX', lane, 0)
  -- Else this took longer than the lease, and another process has settled it.
  if entry and string.sub(entry, 1, #mark) == mark then
    local next_at = 'null'
    if outcome == 'failed' then
      next_at = int(time + tonumber(delay))
      redis.call('HINCRBY', TRIES, job, 1)
      redis.call('ZADD', LANES, next_at, job)
    else
      redis.call('LPOP', lane)
      redis.call('HDEL', TRIES, job)
      redis.call('HINCRBY', KEY, 'bytes', -#entry)
      if redis.call('EXISTS', lane) == 1 then redis.call('ZADD', LANES, int(time), job)
      else redis.call('ZREM', LANES, job) end
    end
    if outcome == 'delivered' then
      -- It is back: what waits for its next try need not wait on.
      if tonumber(redis.call('HGET', KEY, 'fails') or 0) >= FAILING then
        redis.call('ZUNIONSTORE', LANES, 1, LANES, 'WEIGHTS', 0)
      end
      redis.call('HDEL', KEY, 'fails', 'failing_since')
    else
      redis.call('HINCRBY', KEY, 'fails', 1)
      redis.call('HSETNX', KEY, 'failing_since', int(time))
    end
    if outcome == 'gone' then why = 'gone' end
    redis.call('LPUSH', SENT, string.sub(record, 1, -2) .. ',"outcome":"' .. outcome .. '","next_at":' .. next_at .. '}')
  end
end
redis.call('LTRIM', SENT, 0, tonumber(ARGV[6]) - 1)

local held = redis.call('HMGET', KEY, 'hold', 'fails', 'failing_since', 'disabled')
local fails = tonumber(held[2] or 0)
if why == '' and fails >= FAILING and time - tonumber(held[3] or time) >= tonumber(ARGV[5]) then why = 'failing' end
if held[4] then why = '' end
if why ~= '' then redis.call('HSET', KEY, 'disabled', why) end

-- Another process holds it: the lease was over.
if held[1] ~= ARGV[2] then return {why} end
local pause = tonumber(ARGV[3])
if fails >= FAILING then pause = math.max(pause, math.min(5000 * 2 ^ math.min(fails - FAILING, 20), LONGEST_PAUSE)) end
redis.call('HSET', KEY, 'hold', int(time + pause))
local first = redis.call('ZRANGE', LANES, 0, 0, 'WITHSCORES')
if first[2] then redis.call('ZADD', DUE, int(math.max(time + pause, tonumber(first[2]))), HOOK)
else redis.call('ZREM', DUE, HOOK) end
return {why}
