-- The line for a worker, for scripts that begin with the prelude. It has two levels. Owners take turns by
-- start-time fair queueing (Goyal, Vin, Cheng, 1996) with a job as the unit: an owner's turns are places one
-- apart, and begin at the place of the last job taken, so the first job of one owner does not wait behind all
-- those of another. Which of its jobs an owner's turn is for, its own line says: by priority, then by the turns
-- of its groups, which are made in the same way; the jobs of one group in the order in which they came.

local NOT_YET = 1e15 -- Scores in WAITING from here on: the job is not in the line before its time.
local FIRST, LAST = 9, 0 -- Priorities.
local USUAL = 4
local CLASS = 1e13 -- Jobs of one priority in an owner's line have scores below this.

local function in_line() return redis.call('ZSCORE', OWN_LINE, JOB_ID) end

-- Among the jobs of one priority, groups take turns as owners do; those without a group are one more.
-- OWN_TURNS has a group's next place by priority and group, and the front by priority and a space.
local function of_group(class) return class .. (redis.call('HGET', JOB, 'group') or '') end

local function group_place(class)
  local name = of_group(class)
  local tags = redis.call('HMGET', OWN_TURNS, name, class .. ' ')
  local place = math.max(tonumber(tags[1] or 0), tonumber(tags[2] or 0))
  redis.call('HSET', OWN_TURNS, name, int(place + 1))
  return place
end

local function take_groups_turn(score)
  local class = math.floor(score / CLASS)
  local name, place = of_group(class), score - class * CLASS
  local tags = redis.call('HMGET', OWN_TURNS, name, class .. ' ')
  redis.call('HSET', OWN_TURNS, class .. ' ', int(math.max(place, tonumber(tags[2] or 0))))
  -- The last of its group: the next one begins at the front, so no more needs to be known.
  if tonumber(tags[1] or 0) == place + 1 then redis.call('HDEL', OWN_TURNS, name) end
end

local function enter(class)
  local tags = redis.call('HMGET', TURNS, OWNER, '', ' n')
  local front, n = tonumber(tags[2] or 0), tonumber(tags[3] or 0) + 1
  if redis.call('ZSCORE', LINE, OWNER) then
    redis.call('HSET', TURNS, ' n', int(n))
    if class < 0 then redis.call('ZADD', LINE, int(front), OWNER) end
  else
    local place = math.max(tonumber(tags[1] or 0), front)
    redis.call('HSET', TURNS, ' n', int(n), OWNER, int(place))
    redis.call('ZADD', LINE, int(class < 0 and front or place), OWNER)
  end
  redis.call('ZADD', WAITING, int(n), JOB_ID)
  redis.call('ZADD', OWN_LINE, int(class * CLASS + (class < 0 and n or group_place(class))), JOB_ID)
end

local function join_line()
  local priority = tonumber(redis.call('HGET', JOB, 'priority')) or USUAL
  enter(FIRST - math.max(LAST, math.min(FIRST, priority)))
end

-- To the front: it had its turn before.
local function rejoin_line() enter(-1) end

local function leave_line()
  redis.call('ZREM', WAITING, JOB_ID)
  if redis.call('ZREM', OWN_LINE, JOB_ID) == 1 then
    local first = redis.call('ZRANGE', OWN_LINE, 0, 0, 'WITHSCORES')
    if first[1] then
      local tags = redis.call('HMGET', TURNS, OWNER, '')
      local place = tonumber(first[2]) < 0 and tags[2] or tags[1]
      redis.call('ZADD', LINE, int(tonumber(place or 0)), OWNER)
    else
      redis.call('ZREM', LINE, OWNER)
      redis.call('DEL', OWN_TURNS)
    end
  end
  if redis.call('EXISTS', WAITING) == 0 then redis.call('DEL', TURNS) end
end

-- Leaves the line because it is taken: that was its owner's turn.
local function take_turn()
  local score = tonumber(in_line() or -1)
  if score >= 0 then
    local tags = redis.call('HMGET', TURNS, OWNER, '')
    local place = tonumber(tags[1] or 0)
    redis.call('HSET', TURNS, OWNER, int(place + 1), '', int(math.max(place, tonumber(tags[2] or 0))))
    take_groups_turn(score)
  end
  leave_line()
end
