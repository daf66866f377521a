-- The line for a worker, for scripts that begin with the prelude. It has two levels. Owners take turns by
-- start-time fair queueing (Goyal, Vin, Cheng, 1996) with a job as the unit: an owner's turns are TURN places
-- apart, and begin at the place of the last job taken, so the first job of one owner does not wait behind all
-- those of another. Which of its jobs an owner's turn is for, its own line says: by priority, then by the turns
-- of its groups, which are made in the same way; the jobs of one group in the order in which they came.

local NOT_YET = 1e15 -- Scores in WAITING from here on: the job is not in the line before its time.
local FIRST, LAST = 9, 0 -- Priorities.
local USUAL = 4
local CLASS = 1e13 -- Jobs of one priority in an owner's line have scores below this.

-- Newcomers begin one place behind each other: at one and the same place chance would decide who is next, and
-- more of them could pass one that waits for ever.
local TURN = 1024
local MOST_TURNS_BACK = 10000 -- Some 10 ms.

-- Returns the place of the next turn, and that of the last newcomer.
local function next_place(own, front, newest)
  own, front = tonumber(own or -1), tonumber(front or 0)
  if own >= front then return own, newest end
  local place = math.max(front, tonumber(newest or -1) + 1)
  return place, place
end

local function in_line() return redis.call('ZSCORE', OWN_LINE, JOB_ID) end

-- Among the jobs of one priority, groups take turns as owners do; those without a group are one more.
-- OWN_TURNS has all that by class: its scores are places as in the owner's line. The last turn and the newest group
-- have names with a space, which no group in JSON begins with. A group whose next turn is at the front is like one
-- that comes anew, so it is not kept.
local function group_place(class)
  local base, name = class * CLASS, class .. (redis.call('HGET', JOB, 'group') or '')
  local known = redis.call('ZMSCORE', OWN_TURNS, name, class .. ' ', class .. ' n')
  local front, own = tonumber(known[2] or base), tonumber(known[1] or -1)
  -- The last turns are given again if their jobs have left the line without them, as canceled ones do.
  for _ = 1, MOST_TURNS_BACK do
    local last = own - TURN
    if last <= front or redis.call('ZCOUNT', OWN_LINE, int(last), int(last)) > 0 then break end
    own = last
  end
  local place, newest = next_place(own, front, known[3] or base - 1)
  redis.call('ZADD', OWN_TURNS, int(place + TURN), name, int(newest), class .. ' n')
  return place
end

local function take_groups_turn(place)
  local class = math.floor(place / CLASS)
  local front = int(math.max(place, tonumber(redis.call('ZSCORE', OWN_TURNS, class .. ' ') or 0)))
  redis.call('ZREMRANGEBYSCORE', OWN_TURNS, int(class * CLASS), '(' .. front)
  redis.call('ZADD', OWN_TURNS, front, class .. ' ')
end

local function enter(class)
  local tags = redis.call('HMGET', TURNS, OWNER, '', ' new', ' n')
  local n = int(tonumber(tags[4] or 0) + 1)
  if not redis.call('ZSCORE', LINE, OWNER) then
    local place, newest = next_place(unpack(tags, 1, 3))
    redis.call('HSET', TURNS, OWNER, int(place), ' new', int(newest or -1))
    redis.call('ZADD', LINE, int(place), OWNER)
  end
  if class < 0 then redis.call('ZADD', LINE, int(tonumber(tags[2] or 0)), OWNER) end
  redis.call('HSET', TURNS, ' n', n)
  redis.call('ZADD', WAITING, n, JOB_ID)
  redis.call('ZADD', OWN_LINE, int(class < 0 and class * CLASS + n or group_place(class)), JOB_ID)
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
    redis.call('HSET', TURNS, OWNER, int(place + TURN), '', int(math.max(place, tonumber(tags[2] or 0))))
    take_groups_turn(score)
  end
  leave_line()
end
