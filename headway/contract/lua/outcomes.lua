-- Counts what becomes of jobs, by type, for scripts that begin with the prelude (headway/contract/outcomes.py).
--
-- fields of the partition's hash: "<what> <type>". What: `started`, attempts; a state, jobs that ended so;
--   `waited <le>`, jobs that waited at most so many seconds for their first start, and no shorter time of
--   BUCKETS; `waited ms`, all of that together; `ran <le>` and `ran ms`: the same from the first start to the end.

local OUTCOMES = HEAD .. 'outcomes'
local BUCKETS = {0.01, 0.1, 1, 10, 60, 600, 3600, 21600}
local MAX_OUTCOMES = 10000 -- Fields. Types beyond that are counted together.

local function counted_type(what)
  local type = string.sub(redis.call('HGET', JOB, 'type'), 2, -2)
  local new = redis.call('HEXISTS', OUTCOMES, what .. ' ' .. type) == 0
  if new and redis.call('HLEN', OUTCOMES) >= MAX_OUTCOMES then return 'other' end
  return type
end

local function count_time(what, type, ms)
  ms = math.max(0, ms)
  local le = '+Inf'
  for _, bucket in ipairs(BUCKETS) do
    if ms <= bucket * 1000 then
      le = tostring(bucket)
      break
    end
  end
  redis.call('HINCRBY', OUTCOMES, what .. ' ' .. le .. ' ' .. type, 1)
  redis.call('HINCRBY', OUTCOMES, what .. ' ms ' .. type, int(ms))
end

-- An attempt begins at `time`; before it there were so many.
local function count_start(job, time, before)
  local type = counted_type('started')
  redis.call('HINCRBY', OUTCOMES, 'started ' .. type, 1)
  if before > 0 then return end
  redis.call('HSET', JOB, '_began', int(time))
  -- The score has the moment of its submission (create.lua).
  local due = math.max(math.floor(job.score / IDS_PER_MS), tonumber(redis.call('HGET', JOB, '_not_before') or 0))
  count_time('waited', type, time - due)
end

local function count_end(state, time)
  local type = counted_type(state)
  redis.call('HINCRBY', OUTCOMES, state .. ' ' .. type, 1)
  local began = tonumber(redis.call('HGET', JOB, '_began') or '')
  if began then count_time('ran', type, time - began) end
end
