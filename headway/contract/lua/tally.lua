-- A group's tally: how many of its jobs are in each state, and how much of them is done. It changes in the
-- same write as the job. For scripts that define STATES, INDEX, FEED_CAP and RETENTION_S before they include
-- this. A group is a table of its keys: feed, last (ids of the feed), jobs, tally, due.
--
-- fields: group (JSON), title (JSON), expected; lost: of these, so many will not come after all; a count for
--         each state; size: of all jobs together; done: of that, so much; started_at, ended_at (ms); event,
--         id, data: the last event that was told; mark_at, mark_done, before_at, before_done: two moments at
--         which `done` was noted, for the rate

local TELL_MS = 500 -- Changes within this time are one event.
local RATE_MS = 15000 -- The rate is that of the last one to two of these.

-- Jobs that were made before there were tallies are counted once.
local function open_tally(group, name)
  if redis.call('EXISTS', group.tally) == 1 then return end
  local all, over = 0, 0
  for _, state in ipairs(STATES) do
    local count = redis.call('ZINTERCARD', 2, group.jobs, INDEX[state])
    redis.call('HSET', group.tally, state, count)
    all = all + count
    if state == 'succeeded' or state == 'failed' or state == 'canceled' then over = over + count end
  end
  redis.call('HSET', group.tally, 'group', name, 'size', all, 'done', over)
end

-- Has an event told soon, together with other changes.
local function tell_soon(group)
  redis.call('ZADD', group.due, 'NX', int(now() + TELL_MS), group.tally)
end

local function change_tally(group, from, to, size, done)
  if from then redis.call('HINCRBY', group.tally, from, -1) end
  if to then redis.call('HINCRBY', group.tally, to, 1) end
  if size ~= 0 then redis.call('HINCRBYFLOAT', group.tally, 'size', tostring(size)) end
  if done ~= 0 then redis.call('HINCRBYFLOAT', group.tally, 'done', tostring(done)) end
  tell_soon(group)
end

local function figure(number) return string.format('%.5g', number) end

local function time_or_null(ms) return ms and '"' .. rfc3339(tonumber(ms)) .. '"' or 'null' end

-- The document of a group (docs/groups.md), and whether all that is expected has ended.
local function tally_document(group)
  local held = {}
  local pairs_ = redis.call('HGETALL', group.tally)
  for i = 1, #pairs_, 2 do held[pairs_[i]] = pairs_[i + 1] end
  local counts, all, over = {}, 0, 0
  for i, state in ipairs(STATES) do
    local count = tonumber(held[state] or 0)
    counts[i] = '"' .. state .. '":' .. int(count)
    all = all + count
    if state == 'succeeded' or state == 'failed' or state == 'canceled' then over = over + count end
  end
  local expected, size, done = tonumber(held.expected), tonumber(held.size), tonumber(held.done)
  if expected then expected = math.max(0, expected - tonumber(held.lost or 0)) end
  local whole = expected ~= nil and over >= expected and over == all
  -- Jobs that are still to come count as the mean of those that are there.
  local total = size
  if expected and expected > all then total = all > 0 and size / all * expected or expected end
  local fraction, rate, eta = 'null', 'null', 'null'
  if whole or (all > 0 and over == all and not (expected and expected > all)) then
    fraction = '1'
  elseif total > 0 then
    fraction = figure(math.max(0, math.min(0.999, done / total)))
  end
  local since = tonumber(held.before_at or held.mark_at)
  local span = since and now() - since or 0
  if span >= 1000 and over < math.max(all, expected or 0) then
    local speed = (done - tonumber(held.before_done or held.mark_done)) * 1000 / span
    if speed > 0 then
      rate, eta = figure(speed), string.format('%.1f', (total - done) / speed)
    end
  end
  local state = whole and 'ended' or held.started_at and 'running' or 'queued'
  return '{"group":' .. held.group .. ',"title":' .. (held.title or 'null')
    .. ',"counts":{' .. table.concat(counts, ',') .. '},"expected":' .. (expected and int(expected) or 'null')
    .. ',"fraction":' .. fraction .. ',"rate":' .. rate .. ',"eta_s":' .. eta
    .. ',"started_at":' .. time_or_null(held.started_at) .. ',"ended_at":' .. time_or_null(held.ended_at)
    .. ',"state":"' .. state .. '"}', whole
end

local last_ids = {} -- By the key of a feed's: any and stored, once this script knows them.

-- Publishes a group's document on its feed. Of these events a feed keeps only `group-end`: the last of the
-- others is in the tally.
local function tell_group(group, event)
  local id, ms = tick()
  local tally, stream, last = group.tally, group.feed, group.last
  local held = redis.call('HMGET', tally, 'mark_at', 'mark_done', 'done')
  if not held[1] or ms - tonumber(held[1]) > RATE_MS then
    if held[1] then redis.call('HSET', tally, 'before_at', held[1], 'before_done', held[2]) end
    redis.call('HSET', tally, 'mark_at', int(ms), 'mark_done', held[3])
  end
  local data = tally_document(group)
  local ids = last_ids[last] or redis.call('HMGET', last, 'any', 'stored')
  last_ids[last] = {id, event == 'group-end' and id or ids[2]}
  redis.call('SPUBLISH', stream, (ids[1] or '0-0') .. ' ' .. event .. '\n'
    .. 'id: ' .. id .. '\nevent: ' .. event .. '\ndata: ' .. data .. '\n\n')
  redis.call('HSET', last, 'any', id)
  if event == 'group-end' then
    redis.call('XADD', stream, 'MAXLEN', '~', FEED_CAP, id, 'e', event, 'p', ids[2] or '0-0', 'd', data)
    redis.call('HSET', last, 'stored', id)
  end
  redis.call('EXPIRE', stream, RETENTION_S)
  redis.call('EXPIRE', last, RETENTION_S)
  redis.call('HSET', tally, 'event', event, 'id', id, 'data', data)
  redis.call('ZREM', group.due, tally)
end

-- Ends the group if all that is expected has ended; opens it again if that is no longer so.
local function settle_group(group)
  local _, whole = tally_document(group)
  local ended_at = redis.call('HGET', group.tally, 'ended_at')
  if whole and not ended_at then
    redis.call('HSET', group.tally, 'ended_at', int(now()))
    tell_group(group, 'group-end')
  elseif ended_at and not whole then
    redis.call('HDEL', group.tally, 'ended_at')
  end
end
