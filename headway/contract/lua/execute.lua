-- An execution of a foreign job, which another system decided on: attempt + 1, and also its outcome if it
-- is over by now. A job that is held by an earlier execution is taken over: that system knows better.
--
-- keys: prelude
-- args: 5 token of this execution (a repeat with the same token changes nothing: its reply was lost),
--       6 lease in ms, 7 the worker as a JSON string, 8 its place among the job's executions, 9 ms within which
--       the system delivers the task again if the worker is lost (0: it does not), 10 reason (JSON string)
--       for taking over, 11 the state it ended in, 'retrying', or '' if it goes on, 12 result (JSON),
--       13 error (JSON), 14 reason (JSON string) of a retry, 15 ms until the retry, 16 progress (JSON), or '',
--       17 how many executions went before it at least
-- returns: {'claimed', fence, 1 if cancellation was asked for, else 0} | {'over'}: with its outcome
--          | {'superseded'}: a later execution is known | {'ended', state, the job that took its place, or ''}:
--          it had ended before
--          | {'gone'}
-- events: state (retrying) when it takes over, state (running), then the outcome's

local job = load()
if not job then return {'gone'} end
local mine = job.fence == ARGV[5]
if ended(job) then
  if mine then return {'over'} end
  -- An earlier attempt that is heard of only now. What begins anew and retries is shown from the next attempt on.
  if ARGV[11] == 'retrying' and job.place > tonumber(ARGV[8]) then return {'superseded'} end
  return {'ended', job.state, redis.call('HGET', JOB, '_again') or ''}
end
if job.place > tonumber(ARGV[8]) then return {'superseded'} end
if mine and job.state == 'retrying' then return {'over'} end
if not mine then
  if job.state == 'running' then move(job, 'retrying', ARGV[10]) end
  if not job.sent then
    leave_line()
    job.sent = '1'
  end
  if job.lost then redis.call('HDEL', JOB, '_lost') end
  -- An earlier execution, in another process, may be heard of only after this one.
  job.attempt = int(math.max(tonumber(job.attempt), tonumber(ARGV[17])))
  -- Most tasks are over when they are heard of.
  local passes = ARGV[11] ~= '' and ARGV[11] ~= 'retrying'
  begin(job, now(), ARGV[5], tonumber(ARGV[6]), ARGV[7], passes, '_sent', '1', '_place', ARGV[8],
    '_redelivery', ARGV[9])
end
if ARGV[11] == '' then return {'claimed', job.fence, job.cancel_requested and 1 or 0} end
if ARGV[11] == 'retrying' then
  give_back(job, ARGV[14], now() + tonumber(ARGV[15]))
else
  finish(job, ARGV[11], ARGV[12], ARGV[13], ARGV[16])
end
return {'over'}
