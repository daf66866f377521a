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
    attempts_left(job), redis.call('HGET', JOB, '_woken') or ''}
end
if not waits(job) then return {'refused', job.state} end
local time = now()
-- A message that comes early must not cut a retry's delay short; its alarm sends another.
local not_before = tonumber(redis.call('HGET', JOB, '_not_before') or 0)
if time < not_before then return {'refused', job.state} end
-- Its alarm is about to end it.
if job.deadline and job.deadline <= time then return {'refused', job.state} end

local fence = redis.call('HINCRBY', JOB, '_fence', 1)
local continues = redis.call('HDEL', JOB, '_continues') == 1
if not continues then
  job.attempt = int(redis.call('HINCRBY', JOB, 'attempt', 1))
  redis.call('HSET', JOB, 'progress', 'null')
  redis.call('HDEL', JOB, '_woken')
end
local lease = time + tonumber(ARGV[6])
local deadline = job.deadline
if job.timeout_s and not deadline then
  deadline = time + job.timeout_s * 1000
  redis.call('HSET', JOB, '_deadline', int(deadline))
end
local at = '"' .. rfc3339(time) .. '"'
redis.call('HSETNX', JOB, 'started_at', at)
local place = tonumber(redis.call('ZSCORE', WAITING, JOB_ID) or NOT_YET)
local taken = tonumber(redis.call('HGET', TURNS, '') or 0)
if taken < place and place < NOT_YET then redis.call('HSET', TURNS, '', int(place)) end
leave_line()
open_tally()
if not continues then recount(nil, nil, 0) end
if GROUP_JOBS then redis.call('HSETNX', TALLY, 'started_at', int(time)) end
move(job, 'running', '', '_token', ARGV[5], '_lease', int(lease), '_seq', '0',
  '_worker', ARGV[7], '_since', at)
set_alarm(deadline and math.min(lease, deadline) or lease)
return {'claimed', fence, document(), redis.call('HGET', JOB, '_checkpoint') or '',
    attempts_left(job), redis.call('HGET', JOB, '_woken') or ''}
