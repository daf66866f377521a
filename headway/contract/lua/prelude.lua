-- What every script that changes a job begins with.
--
-- keys: 1 clock, 2 alarms, 3 expiring, 4 job, 5 events, 6 the owner's feed, 7 its last ids,
--       8 the owner's jobs, then one index a state in the order of states.py, then the jobs that wait
--       for its queue and the owners' turns there, then, if the job has a group: the group's feed, its
--       last ids, its jobs
--       (JobStore builds them: Keys.write_set)
-- args: 1 job id, 2 cap of the job's events, 3 cap of a feed, 4 retention in seconds; a script's own
--       follow and are counted from 5
-- The values of the job's hash are JSON texts; fields that begin with _ are ours alone and plain.

local CLOCK, ALARMS, EXPIRING, JOB, EVENTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ALL_JOBS = KEYS[8]
local JOB_ID, EVENTS_CAP, FEED_CAP, RETENTION_S = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local STATES = {@STATES@}
local DOCUMENT = {@DOCUMENT@}

local INDEX = {}
for i, state in ipairs(STATES) do INDEX[state] = KEYS[8 + i] end
local WAITING = KEYS[9 + #STATES]
local TURNS = KEYS[10 + #STATES]
local FEEDS = {{KEYS[6], KEYS[7]}}
-- A script adds at most two keys of its own, so this is none of them.
local GROUP_JOBS = KEYS[10 + #STATES + 3]
if GROUP_JOBS then FEEDS[2] = {KEYS[10 + #STATES + 1], KEYS[10 + #STATES + 2]} end

local function int(number) return string.format('%.0f', number) end

-- Days to a civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
local function rfc3339(ms)
  local floor = math.floor
  local s = floor(ms / 1000)
  local days = floor(s / 86400)
  local rest = s - days * 86400
  local z = days + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local day = doy - floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day,
    floor(rest / 3600), floor(rest % 3600 / 60), rest % 60, ms - s * 1000)
end

-- The machine's time in ms. Leases and alarms run on it.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The next event id: the time, but never less than or equal to the last one, even when the machine's
-- clock goes back. Returns the id, its ms, its n.
local function tick()
  local ms, n = now(), 0
  local last = redis.call('HMGET', CLOCK, 'ms', 'n')
  if last[1] and ms <= tonumber(last[1]) then
    ms, n = tonumber(last[1]), tonumber(last[2]) + 1
  end
  redis.call('HSET', CLOCK, 'ms', int(ms), 'n', int(n))
  return int(ms) .. '-' .. int(n), ms, n
end

-- The job as this script needs it, or nil if there is none.
local function load()
  local h = redis.call('HMGET', JOB, 'state', 'attempt', 'last_event_id', 'cancel_requested',
    'max_attempts', 'timeout_s', '_score', '_fence', '_lease', '_deadline', '_seq',
    '_handed_back', '_hooks')
  if not h[1] then return nil end
  return {
    state = string.sub(h[1], 2, -2), attempt = h[2], last = string.sub(h[3], 2, -2),
    cancel_requested = h[4] == 'true', max_attempts = tonumber(h[5]), timeout_s = tonumber(h[6]),
    score = h[7], fence = h[8], lease = tonumber(h[9]), deadline = tonumber(h[10]),
    seq = tonumber(h[11]), handed_back = tonumber(h[12] or 0),
    hooks = h[13],
  }
end

-- The line for a worker: start-time fair queueing (Goyal, Vin, Cheng, 1996) with a job as the unit. An
-- owner's jobs take places one apart, beginning at the place of the last job taken, so the first job of
-- one owner does not wait behind all those of another.
local NOT_YET = 1e15 -- Places from here on are not to be taken: the job's delay is not over.

local function join_line()
  local owner = redis.call('HGET', JOB, 'owner')
  local tags = redis.call('HMGET', TURNS, owner, '')
  local place = math.max(tonumber(tags[1] or 0), tonumber(tags[2] or 0))
  redis.call('ZADD', WAITING, int(place), JOB_ID)
  redis.call('HSET', TURNS, owner, int(place + 1))
end

-- To the front: it had its turn before.
local function rejoin_line()
  redis.call('ZADD', WAITING, int(tonumber(redis.call('HGET', TURNS, '') or 0)), JOB_ID)
end

local function leave_line()
  redis.call('ZREM', WAITING, JOB_ID)
  if redis.call('EXISTS', WAITING) == 0 then redis.call('DEL', TURNS) end
end

-- Whether nobody works on the job, but somebody shall.
local function waits(job) return job.state == 'queued' or job.state == 'retrying' end

-- Whether the job is as it will stay. A state that a newer version wrote and this one does not know is not.
local function ended(job)
  return job.state == 'succeeded' or job.state == 'failed' or job.state == 'canceled'
end

-- How many attempts may follow. One that a stopping worker handed back does not count.
local function attempts_left(job)
  return job.max_attempts - (tonumber(job.attempt) - job.handed_back)
end

-- The document of a job (of this one, unless a key is given); `replaced` has texts for some fields.
local function document(key, replaced)
  local values = redis.call('HMGET', key or JOB, unpack(DOCUMENT))
  local parts = {}
  for i, name in ipairs(DOCUMENT) do
    parts[i] = '"' .. name .. '":' .. (replaced and replaced[name] or values[i] or 'null')
  end
  return '{' .. table.concat(parts, ',') .. '}'
end

-- Webhooks. A job's _hooks are those that are to be told of it, as webhook_member spells them; most jobs have
-- none. Their keys (keys.py) have the hash tag of the job's, so they lie in its slot.
local HEAD = string.sub(ALARMS, 1, -#'alarms' - 1)
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

-- Writes the event to the job's stream and its feeds and publishes it there: a line with the event
-- before it and its type, then the finished frame. A feed does not keep progress, so it has two last
-- ids: the live chain (any), and the chain of what it keeps (stored). Of an end a feed keeps only a
-- document without what may be large; read_feed.lua puts the whole one in its place.
local function emit(job, id, event, data)
  local frame = 'id: ' .. id .. '\nevent: ' .. event .. '\ndata: ' .. data .. '\n\n'
  redis.call('XADD', EVENTS, 'MAXLEN', '=', EVENTS_CAP, id, 'e', event, 'p', job.last, 'd', data)
  redis.call('PUBLISH', EVENTS, job.last .. ' ' .. event .. '\n' .. frame)
  for _, feed in ipairs(FEEDS) do
    local stream, last = feed[1], feed[2]
    local ids = redis.call('HMGET', last, 'any', 'stored')
    redis.call('PUBLISH', stream, (ids[1] or '0-0') .. ' ' .. event .. '\n' .. frame)
    if event == 'progress' then
      redis.call('HSET', last, 'any', id)
    else
      if event == 'end' then
        redis.call('XADD', stream, 'MAXLEN', '~', FEED_CAP, id, 'e', event, 'p', ids[2] or '0-0',
          'd', document(JOB, {params = '{}', result = 'null'}), 'j', JOB_ID)
      else
        redis.call('XADD', stream, 'MAXLEN', '~', FEED_CAP, id,
          'e', event, 'p', ids[2] or '0-0', 'd', data)
      end
      redis.call('HSET', last, 'any', id, 'stored', id)
      redis.call('EXPIRE', stream, RETENTION_S)
      redis.call('EXPIRE', last, RETENTION_S)
    end
  end
  job.last = id
  if job.hooks then tell_webhooks(job, id, event, data) end
end

-- {job, attempt, at} and the fields of body, which is the text of a JSON object with at least one.
local function with_head(job, at, body)
  return '{"job":"' .. JOB_ID .. '","attempt":' .. job.attempt .. ',"at":"' .. at .. '",'
    .. string.sub(body, 2)
end

-- Appends one event and sets the job's fields that changed with it.
local function append(job, event, body, ...)
  local id, ms = tick()
  local at = rfc3339(ms)
  if event == 'progress' then
    redis.call('HSET', JOB, 'last_event_id', '"' .. id .. '"', 'updated_at', '"' .. at .. '"',
      '_progress_id', id, ...)
  else
    redis.call('HSET', JOB, 'last_event_id', '"' .. id .. '"', 'updated_at', '"' .. at .. '"', ...)
  end
  emit(job, id, event, with_head(job, at, body))
end

local function state_body(state, reason)
  if reason and reason ~= '' then
    return '{"state":"' .. state .. '","reason":' .. reason .. '}'
  end
  return '{"state":"' .. state .. '"}'
end

-- Moves the job to another state that does not end it; reason is a JSON string or ''.
local function move(job, state, reason, ...)
  redis.call('ZREM', INDEX[job.state], JOB_ID)
  redis.call('ZADD', INDEX[state], job.score, JOB_ID)
  job.state = state
  append(job, 'state', state_body(state, reason), 'state', '"' .. state .. '"', ...)
end

-- Ends the job: its last event, and no alarm after it.
local function finish(job, state, result, error, progress)
  local id, ms = tick()
  local at = '"' .. rfc3339(ms) .. '"'
  redis.call('ZREM', INDEX[job.state], JOB_ID)
  redis.call('ZADD', INDEX[state], job.score, JOB_ID)
  redis.call('ZREM', ALARMS, JOB_ID)
  leave_line()
  redis.call('ZADD', EXPIRING, int(ms + RETENTION_S * 1000), JOB_ID)
  redis.call('HSET', JOB, 'state', '"' .. state .. '"', 'result', result, 'error', error,
    'finished_at', at, 'updated_at', at, 'last_event_id', '"' .. id .. '"')
  if progress ~= '' then redis.call('HSET', JOB, 'progress', progress) end
  job.state = state
  -- No TTL: the sweep removes job, events, files and what names the job elsewhere together, or nothing.
  emit(job, id, 'end', document())
end

local function set_alarm(ms) redis.call('ZADD', ALARMS, int(ms), JOB_ID) end
