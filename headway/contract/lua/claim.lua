-- A worker takes a job: attempt + 1, a new fence, a lease. A job that has waited goes on with its attempt.
--
-- keys: prelude
-- args: 5 token of this claim (a repeat with the same token is the same claim: its reply was lost),
--       6 lease in ms, 7 the worker as a JSON string
-- returns: {'claimed', fence, document, checkpoint or '', attempts that may follow, what ended its wait or '',
--          its trace or ''} | {'refused', state} | {'gone'}
-- events: state (running)

local job = load()
if not job then return {'gone'} end
local function claimed()
  local kept = redis.call('HMGET', JOB, '_checkpoint', '_trace')
  return {'claimed', job.fence, document(), kept[1] or '', attempts_left(job), job.woken or '', kept[2] or ''}
end
if job.state == 'running' and redis.call('HGET', JOB, '_token') == ARGV[5] then return claimed() end
if not waits(job) then return {'refused', job.state} end
local time = now()
-- A message that comes early must not cut a retry's delay short; its alarm sends another.
local not_before = tonumber(redis.call('HGET', JOB, '_not_before') or 0)
if time < not_before then return {'refused', job.state} end
-- The worker has this job's message, and drops it: another worker is to have one at once.
local worker, process = string.match(ARGV[7], '^"(.*):([^:]*)"$')
if process == 'http' then
  worker = string.sub(redis.call('HGET', JOB, 'owner'), 2, -2) .. '/' .. worker
end
if worker and redis.call('HEXISTS', HEAD .. 'paused', 'worker:' .. worker) == 1 then
  if process ~= 'http' then set_alarm(time) end
  return {'refused', job.state}
end
if is_paused() then return {'refused', job.state} end
-- Its alarm is about to end it.
local ends = math.min(job.deadline or math.huge, job.expires or math.huge)
if ends <= time then return {'refused', job.state} end

take_turn()
begin(job, time, ARGV[5], tonumber(ARGV[6]), ARGV[7])
return claimed()
