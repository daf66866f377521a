-- Taking a job, for scripts that begin with the prelude.

local function claimed(job)
  local more = redis.call('HMGET', JOB, '_checkpoint', '_once', '_trace')
  return {'claimed', job.fence, document(), more[1] or '', attempts_left(job), job.woken or '', more[2] or '',
    more[3] or ''}
end

-- A worker takes the job: attempt + 1, a new fence, a lease. A job that has waited goes on with its attempt.
-- With the same token it is the same claim. Returns {'claimed', fence, document, checkpoint or '', attempts that may
-- follow, what ended its wait or '', idempotency key or '', trace or ''} | {'refused', state} | {'gone'}.
local function claim(token, lease_ms, worker)
  local job = load()
  if not job then return {'gone'} end
  if job.state == 'running' and job.fence == token then
    return claimed(job)
  end
  if not waits(job) then return {'refused', job.state} end
  local time = now()
  -- A message that comes early must not cut a retry's delay short; its alarm sends another.
  local not_before = tonumber(redis.call('HGET', JOB, '_not_before') or 0)
  if time < not_before then return {'refused', job.state} end
  -- The worker has this job's message, and drops it: another worker is to have one at once.
  local host, process = string.match(worker, '^"(.*):([^:]*)"$')
  if process == 'http' then
    host = OWNER .. '/' .. host
  end
  if host and redis.call('HEXISTS', HEAD .. 'paused', 'worker:' .. host) == 1 then
    if process ~= 'http' then set_alarm(time) end
    return {'refused', job.state}
  end
  if is_paused() then return {'refused', job.state} end
  -- Its alarm is about to end it, and those behind it need not wait for that.
  local ends = math.min(job.deadline or math.huge, job.expires or math.huge)
  if ends <= time then
    leave_line()
    redis.call('ZADD', WAITING, int(NOT_YET + ends), JOB_ID)
    return {'refused', job.state}
  end

  take_turn()
  begin(job, time, token, lease_ms, worker)
  return claimed(job)
end
