-- What every script that changes a job begins with.
--
-- keys: 1 clock, 2 alarms, 3 expiring, 4 job, 5 events, 6 the job's unread messages, 7 the owner's feed,
--       8 its last ids, 9 the owner's jobs, then one index per state in the order of states.py, then the jobs that wait
--       for its queue and the owners' turns there, the jobs that ended before their children, then, for each
--       group that the job is in: the group's feed, its last ids, its jobs, its tally, the groups of which
--       something is to be told
--       (JobStore builds them: Keys.write_set)
-- args: 1 job id, 2 cap of the job's events, below 0 if it keeps its progress when it has ended, 3 cap of a feed,
--       4 retention in seconds; a script's own follow and are counted from 5
-- The values of the job's hash are JSON texts; fields that begin with _ are ours alone and plain.

local CLOCK, ALARMS, EXPIRING = KEYS[1], KEYS[2], KEYS[3]
local EVENTS_CAP, FEED_CAP, RETENTION_S = math.abs(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local KEEPS_PROGRESS = tonumber(ARGV[2]) < 0
local STATES = {@STATES@}
local DOCUMENT = {@DOCUMENT@}
-- What comes before the name of each key of the partition.
local HEAD = string.sub(ALARMS, 1, -#'alarms' - 1)

local JOB_ID, JOB, EVENTS, UNREAD, ALL_JOBS, WAITING, TURNS, ORPHANS
local INDEX, FEEDS
local GROUPS -- Those that the job is in: its own, and its parent's children, if these are another.
local OWNER, LINE, OWN_LINE, OWN_TURNS -- The owner as keys.py spells it; for line.lua.

-- Has the script work on a job.
local function bind(keys, job_id)
  local n = 12 + #STATES
  JOB_ID, JOB, EVENTS, UNREAD, ALL_JOBS = job_id, keys[4], keys[5], keys[6], keys[9]
  INDEX = {}
  for i, state in ipairs(STATES) do INDEX[state] = keys[9 + i] end
  WAITING, TURNS, ORPHANS = keys[n - 2], keys[n - 1], keys[n]
  GROUPS, FEEDS = {}, {{keys[7], keys[8]}}
  -- A script adds at most two keys of its own, so the third is none of them.
  for at = n, #keys - 3, 5 do
    local group = {feed = keys[at + 1], last = keys[at + 2], jobs = keys[at + 3], tally = keys[at + 4],
      due = keys[at + 5]}
    GROUPS[#GROUPS + 1] = group
    FEEDS[#FEEDS + 1] = {group.feed, group.last}
  end
  OWNER = string.sub(ALL_JOBS, #HEAD + #'jobs:' + 1)
  LINE = HEAD .. 'line:' .. string.sub(WAITING, #HEAD + #'waiting:' + 1)
  OWN_LINE = LINE .. ':' .. OWNER
  OWN_TURNS = TURNS .. ':' .. OWNER
end

-- take.lua finds its job first.
if KEYS[9] then bind(KEYS, ARGV[1]) end

--@include clock.lua
--@include tally.lua

-- The job as this script needs it, or nil if there is none.
local function load()
  local h = redis.call('HMGET', JOB, 'state', 'attempt', 'last_event_id', 'cancel_requested',
    'max_attempts', 'timeout_s', '_score', '_fence', '_lease', '_deadline', '_seq',
    '_handed_back', 'started_at', '_foreign', '_sent', '_give_up', '_place', '_lost', '_continues',
    '_woken', '_hooks', '_expires', '_unique', '_counted')
  if not h[1] then return nil end
  return {
    state = string.sub(h[1], 2, -2), attempt = h[2], last = string.sub(h[3], 2, -2),
    cancel_requested = h[4] == 'true', max_attempts = tonumber(h[5]), timeout_s = tonumber(h[6]),
    score = h[7], fence = h[8], lease = tonumber(h[9]), deadline = tonumber(h[10]),
    seq = tonumber(h[11]), handed_back = tonumber(h[12] or 0),
    started_at = h[13],
    -- The task's id, if another system sends its messages (headway/contract/foreign.py); whether that has
    -- it; until when it may wait for a start.
    foreign = h[14], sent = h[15], give_up = tonumber(h[16]),
    place = tonumber(h[17] or 0), lost = h[18],
    -- Whether it goes on after it has waited, and what ended that.
    continues = h[19], woken = h[20],
    hooks = h[21],
    -- When it ends unless it has begun; the key that it holds (hashed).
    expires = h[2] == '0' and tonumber(h[22]) or nil, unique = h[23],
    -- Its type, if it is in its owner's counts: it may be older than these.
    counted = h[24],
  }
end

--@include line.lua

-- Takes tokens (one, unless told otherwise) from the bucket that two fields of a hash hold. Returns nothing, or,
-- if they are not there, the ms until they are. More than it can hold are taken when it is full, on credit.
local function take_token(key, tokens_field, at_field, rate, burst, count)
  local time = now()
  local known = redis.call('HMGET', key, tokens_field, at_field)
  local tokens = math.min(burst, tonumber(known[1] or burst)
    + math.max(0, time - tonumber(known[2] or time)) * rate / 1000)
  local least = math.min(count or 1, burst)
  if tokens < least then return math.ceil((least - tokens) * 1000 / rate) end
  redis.call('HSET', key, tokens_field, tostring(tokens - (count or 1)), at_field, int(time))
end

-- Whether nobody works on the job, but somebody shall.
local function waits(job) return job.state == 'queued' or job.state == 'retrying' end

-- Whether the job is as it will stay. A state that a newer version wrote and this one does not know is not.
local function ended(job)
  return job.state == 'succeeded' or job.state == 'failed' or job.state == 'canceled'
end

-- The key of another job of the partition. It is not declared; it has the same hash tag, so it lies in the
-- same slot. So does the tally of a job's children, who are a group of that name.
local function key_of(id) return string.sub(JOB, 1, -#JOB_ID - 1) .. id end

local function live_children(id)
  local head, owner = string.match(ALL_JOBS, '^(.*}):jobs:(.*)$')
  local count = 0
  for _, n in ipairs(redis.call('HMGET', head .. ':tally:' .. owner .. ':' .. id,
      'queued', 'running', 'retrying', 'waiting')) do
    count = count + tonumber(n or 0)
  end
  return count
end

-- How many attempts may follow. One that a stopping worker handed back does not count.
local function attempts_left(job)
  return job.max_attempts - (tonumber(job.attempt) - job.handed_back)
end

-- The document of a job (of this one, unless a key is given); `replaced` has texts for some fields, `values`
-- those of the document's fields, if they were read before.
local function document(key, replaced, values)
  values = values or redis.call('HMGET', key or JOB, unpack(DOCUMENT))
  local parts = {}
  for i, name in ipairs(DOCUMENT) do
    parts[i] = '"' .. name .. '":' .. (replaced and replaced[name] or values[i] or 'null')
  end
  return '{' .. table.concat(parts, ',') .. '}'
end

--@include webhooks.lua
--@include outcomes.lua

-- Whether claims of the job are refused for now: its queue or its type is paused (headway/contract/pauses.py).
local function is_paused()
  local held = redis.call('HMGET', JOB, '_queue', 'type')
  local paused = redis.call('HMGET', HEAD .. 'paused', 'queue:' .. held[1], 'type:' .. string.sub(held[2], 2, -2))
  return paused[1] or paused[2]
end

-- Writes the event to the job's stream and its feeds and publishes it there: a line with the event
-- before it and its type, then the finished frame. A feed does not keep progress, so it has two last
-- ids: the live chain (any), and the chain of what it keeps (stored). Of an end a feed keeps only a
-- document without what may be large (`kept`); read_feed.lua puts the whole one in its place.
local function emit(job, id, event, data, kept)
  local frame = 'id: ' .. id .. '\nevent: ' .. event .. '\ndata: ' .. data .. '\n\n'
  redis.call('XADD', EVENTS, 'MAXLEN', '=', EVENTS_CAP, id, 'e', event, 'p', job.last, 'd', data)
  redis.call('SPUBLISH', EVENTS, job.last .. ' ' .. event .. '\n' .. frame)
  for _, feed in ipairs(FEEDS) do
    local stream, last = feed[1], feed[2]
    local ids = last_ids[last] or redis.call('HMGET', last, 'any', 'stored')
    redis.call('SPUBLISH', stream, (ids[1] or '0-0') .. ' ' .. event .. '\n' .. frame)
    if event == 'progress' then
      redis.call('HSET', last, 'any', id)
      last_ids[last] = {id, ids[2]}
    else
      if kept then
        redis.call('XADD', stream, 'MAXLEN', '~', FEED_CAP, id, 'e', event, 'p', ids[2] or '0-0',
          'd', kept, 'j', JOB_ID)
      else
        redis.call('XADD', stream, 'MAXLEN', '~', FEED_CAP, id,
          'e', event, 'p', ids[2] or '0-0', 'd', data)
      end
      redis.call('HSET', last, 'any', id, 'stored', id)
      -- Once in a script.
      if not last_ids[last] then
        redis.call('EXPIRE', stream, RETENTION_S)
        redis.call('EXPIRE', last, RETENTION_S)
      end
      last_ids[last] = {id, id}
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

-- Appends one event and sets the job's fields that changed with it. Returns the event's data.
local function append(job, event, body, ...)
  local id, ms = tick()
  local at = rfc3339(ms)
  if event == 'progress' then
    redis.call('HSET', JOB, 'last_event_id', '"' .. id .. '"', 'updated_at', '"' .. at .. '"',
      '_progress_id', id, ...)
  else
    redis.call('HSET', JOB, 'last_event_id', '"' .. id .. '"', 'updated_at', '"' .. at .. '"', ...)
  end
  local data = with_head(job, at, body)
  emit(job, id, event, data)
  return data
end

-- The owner's jobs by state and type: one less there, one more here; nil: nowhere.
local function count(type, from, to)
  local key = HEAD .. 'counts:' .. OWNER
  if from and redis.call('HINCRBY', key, from .. ' ' .. type, -1) <= 0 then
    redis.call('HDEL', key, from .. ' ' .. type)
  end
  if to then redis.call('HINCRBY', key, to .. ' ' .. type, 1) end
end

-- Moves the job from the index of its state to another, or out of all.
local function reindex(job, state)
  redis.call('ZREM', INDEX[job.state], JOB_ID)
  if state then redis.call('ZADD', INDEX[state], job.score, JOB_ID) end
  if job.counted then count(job.counted, job.state, state) end
end

local function open_tallies()
  for i, group in ipairs(GROUPS) do
    if redis.call('EXISTS', group.tally) == 0 then
      open_tally(group, redis.call('HGET', JOB, i == 1 and 'group' or 'parent'))
    end
  end
end

-- What the job adds to its groups' tallies; `share` is how much of it is done, 0 to 1, or nil if that stays.
local function recount(from, to, share)
  if not GROUPS[1] then return end
  local known = redis.call('HMGET', JOB, 'size', '_share')
  local before = tonumber(known[2] or 0)
  local after = share or before
  if after ~= before then redis.call('HSET', JOB, '_share', tostring(after)) end
  for _, group in ipairs(GROUPS) do
    change_tally(group, from, to, 0, (after - before) * (tonumber(known[1]) or 1))
  end
end

-- The same for what a report says of its progress, which begins with the fraction.
local function recount_progress(text)
  if GROUPS[1] then
    recount(nil, nil, tonumber(string.match(text, '^{"fraction":([^,}]+)')) or 0)
  end
end

local function state_body(state, reason)
  if reason and reason ~= '' then
    return '{"state":"' .. state .. '","reason":' .. reason .. '}'
  end
  return '{"state":"' .. state .. '"}'
end

-- Moves the job to another state that does not end it; reason is a JSON string or ''.
local function move(job, state, reason, ...)
  open_tallies()
  reindex(job, state)
  recount(job.state, state)
  job.state = state
  append(job, 'state', state_body(state, reason), 'state', '"' .. state .. '"', ...)
end

local function unique_key(hash) return HEAD .. 'unique:' .. OWNER .. ':' .. hash end

-- The job's group and others will not get the jobs that were to follow it: "name count" of each group, or
-- "name/once count" if these follow several jobs, and any of them takes them away.
local function lose_followers(followers)
  for name, once, count in string.gmatch(followers, '([^%s/]+)(/?%S*) (%d+)') do
    local of = OWNER .. ':' .. name
    local group = {feed = HEAD .. 'feed:group:' .. of, last = HEAD .. 'last:feed:group:' .. of,
      jobs = HEAD .. 'group:' .. of, tally = HEAD .. 'tally:' .. of, due = HEAD .. 'groups'}
    local known = redis.call('EXISTS', group.tally) == 1
    -- The job may have ended before others of the group, and its total, are heard of.
    if not known then
      open_tally(group, cjson.encode((string.gsub(name, '%%(%x%x)',
        function(byte) return string.char(tonumber(byte, 16)) end))))
      if redis.call('EXISTS', group.jobs) == 0 then redis.call('EXPIRE', group.tally, RETENTION_S) end
    end
    if once == '' or redis.call('HSETNX', group.tally, 'lost_once', '1') == 1 then
      redis.call('HINCRBY', group.tally, 'lost', count)
      if known then
        tell_soon(group)
        settle_group(group)
      end
    end
  end
end

-- Of the progress of a job that ends only the newest is kept. The rest is written anew, as deleting entries from
-- among others would free no memory. An event that comes after what is not kept says with `k` which kept one was
-- before it; `p` is the last one that is not.
local MOST_REWRITTEN = 5000 -- Events, some 20 ms. A job with more keeps all.
local function forget_progress()
  local newest = redis.call('HGET', JOB, '_progress_id')
  if KEEPS_PROGRESS or not newest or redis.call('XLEN', EVENTS) > MOST_REWRITTEN then return end
  local kept, before, gap, any = {}, nil, false, false
  for _, entry in ipairs(redis.call('XRANGE', EVENTS, '-', '+')) do
    local id, fields = entry[1], entry[2]
    -- What was before the first may have been trimmed.
    before = before or fields[4]
    if fields[2] == 'progress' and id ~= newest then
      gap, any = true, true
    else
      if gap then
        fields[7], fields[8] = 'k', before
      end
      kept[#kept + 1] = entry
      before, gap = id, false
    end
  end
  if not any then return end
  redis.call('DEL', EVENTS)
  for _, entry in ipairs(kept) do redis.call('XADD', EVENTS, entry[1], unpack(entry[2])) end
end

-- Ends the job: its last event, and no alarm after it.
local function finish(job, state, result, error, progress)
  open_tallies()
  local id, ms = tick()
  local at = '"' .. rfc3339(ms) .. '"'
  reindex(job, state)
  redis.call('ZREM', ALARMS, JOB_ID)
  redis.call('DEL', UNREAD)
  if not job.sent then leave_line() end
  if job.unique and redis.call('GET', unique_key(job.unique)) == JOB_ID then
    redis.call('DEL', unique_key(job.unique))
  end
  redis.call('ZADD', EXPIRING, int(ms + RETENTION_S * 1000), JOB_ID)
  redis.call('HSET', JOB, 'state', '"' .. state .. '"', 'result', result, 'error', error,
    'finished_at', at, 'updated_at', at, 'last_event_id', '"' .. id .. '"')
  if progress ~= '' then redis.call('HSET', JOB, 'progress', progress) end
  recount(job.state, state, 1)
  count_end(state, ms)
  job.state = state
  forget_progress()
  -- No TTL: the sweep removes job, events, files and what names the job elsewhere together, or nothing.
  local values = redis.call('HMGET', JOB, unpack(DOCUMENT))
  emit(job, id, 'end', document(JOB, nil, values), document(JOB, {params = '{}', result = 'null'}, values))
  local family = redis.call('HMGET', JOB, 'parent', '_children', '_followers')
  if family[3] and state ~= 'succeeded' then lose_followers(family[3]) end
  for _, group in ipairs(GROUPS) do settle_group(group) end
  local parent = string.match(family[1] or '', '^"(.+)"$')
  if parent then
    local waits_for = redis.call('HMGET', key_of(parent), 'state', '_waits_for')
    if waits_for[1] == '"waiting"' and waits_for[2] == 'children' and live_children(parent) == 0 then
      redis.call('ZADD', ALARMS, int(now()), parent)
    end
  end
  -- Another system's tasks may outlive the one that sent them, unless they are canceled here.
  if family[2] and (not job.foreign or job.cancel_requested) then
    redis.call('ZADD', ORPHANS, int(ms), JOB_ID)
  end
end

-- The message of a foreign job that has not begun is under way all the same; workers look here for what they must
-- not start.
local function revoke(job)
  local time, revoked = now(), HEAD .. 'revoked'
  redis.call('ZADD', revoked, int(time), job.foreign)
  redis.call('ZREMRANGEBYSCORE', revoked, '-inf', int(time - RETENTION_S * 1000))
end

local function set_alarm(ms) redis.call('ZADD', ALARMS, int(ms), JOB_ID) end

-- The same, but not later than what ends the job by itself.
local function look_at(job, ms) set_alarm(math.min(ms, job.deadline or ms, job.expires or ms)) end

local LONGEST_WAIT_MS = 3600000 -- A job that waits is looked at so often, whatever it waits for.

-- Sets the alarm of a waiting job: at once if what it waits for is there. Returns what that is, or nil.
local function look_whether_it_waits(job)
  local time = now()
  local waits_for = redis.call('HMGET', JOB, '_waits_for', '_wait_until')
  local until_ = tonumber(waits_for[2] or '')
  local woken
  if waits_for[1] == 'children' and live_children(JOB_ID) == 0 then woken = 'children' end
  if waits_for[1] == 'message' and redis.call('XLEN', UNREAD) > 0 then woken = 'message' end
  if not woken and until_ and until_ <= time then woken = 'timeout' end
  local look = woken and time or math.min(until_ or math.huge, time + LONGEST_WAIT_MS)
  look_at(job, look)
  return woken
end

-- A worker takes the job: a new fence, a lease, and attempt + 1 unless the job goes on after it has waited. One
-- that ends it within the same script `passes`: only the event is written, the indexes and the alarm are
-- left to the end.
local function begin(job, time, token, lease_ms, worker, passes, ...)
  open_tallies()
  job.expires = nil
  -- Not a number that is counted up: a store that has lost a claim in a failover would give it out twice.
  job.fence = token
  job.lease = time + lease_ms
  if job.timeout_s and not job.deadline then
    job.deadline = time + job.timeout_s * 1000
    redis.call('HSET', JOB, '_deadline', int(job.deadline))
  end
  local at = '"' .. rfc3339(time) .. '"'
  local fields = {'_fence', job.fence, 'started_at', job.started_at or at,
    '_lease', int(job.lease), '_seq', '0', '_worker', worker, '_since', at, ...}
  if job.continues then
    redis.call('HDEL', JOB, '_continues')
  else
    count_start(job, time, tonumber(job.attempt))
    job.attempt = int(tonumber(job.attempt) + 1)
    for _, part in ipairs({'attempt', job.attempt, 'progress', 'null'}) do table.insert(fields, part) end
    if job.woken then redis.call('HDEL', JOB, '_woken') end
    job.woken = nil
    recount(nil, nil, 0)
  end
  for _, group in ipairs(GROUPS) do redis.call('HSETNX', group.tally, 'started_at', int(time)) end
  if passes then
    append(job, 'state', state_body('running'), unpack(fields))
  else
    move(job, 'running', '', unpack(fields))
    look_at(job, job.lease)
  end
end

-- The holder gives up its attempt; another follows at `due`.
local function give_back(job, reason, due)
  move(job, 'retrying', reason, '_not_before', int(due), '_sends', '0')
  if job.foreign then
    redis.call('HSET', JOB, '_give_up', int(due + RETENTION_S * 1000))
  else
    redis.call('ZADD', WAITING, int(NOT_YET + due), JOB_ID)
  end
  look_at(job, due)
end
