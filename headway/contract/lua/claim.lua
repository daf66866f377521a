-- A worker takes a job: attempt + 1, a new fence, a lease. A job that has waited goes on with its attempt.
--
-- keys: prelude
-- args: 5 token of this claim (a repeat with the same token is the same claim: its reply was lost),
--       6 lease in ms, 7 the worker as a JSON string
-- returns: {'claimed', fence, document, checkpoint or '', attempts that may follow, what ended its wait or ''}
--          | {'refused', state} | {'gone'}
-- events: state (running)

local job = load()
if not job then return {'gone'} end
if job.state == 'running' and redis.call('HGET', JOB, '_token') == ARGV[5] then
  return {'claimed', job.fence, document(), redis.call('HGET', JOB, '_checkpoint') or '',
    attempts_left(job), job.woken or ''}
end
if not waits(job) then return {'refused', job.state} end
local time = now()
-- A message that comes early must not cut a retry's delay short; its alarm sends another.
local not_before = tonumber(redis.call('HGET', JOB, '_not_before') or 0)
if time < not_before then return {'refused', job.state} end
-- Its alarm is about to end it.
if job.deadline and job.deadline <= time then return {'refused', job.state} end

local place = tonumber(redis.call('ZSCORE', WAITING, JOB_ID) or NOT_YET)
local taken = tonumber(redis.call('HGET', TURNS, '') or 0)
if taken < place and place < NOT_YET then redis.call('HSET', TURNS, '', int(place)) end
leave_line()
begin(job, time, ARGV[5], tonumber(ARGV[6]), ARGV[7])
return {'claimed', job.fence, document(), redis.call('HGET', JOB, '_checkpoint') or '',
    attempts_left(job), job.woken or ''}
