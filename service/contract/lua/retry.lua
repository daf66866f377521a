-- The holder gives up this attempt; another follows after a delay.
--
-- keys: prelude
-- args: 5 fence, 6 states it may come from, 7 delay in ms, 8 reason (JSON string)
-- returns: {'ok'} | {'stale'}: another holds it, or it ended
-- events: state (retrying)

local job = load()
if not job or job.fence ~= ARGV[5] then return {'stale'} end
-- The same once more: the reply to the first was lost.
if job.state == 'retrying' then return {'ok'} end
if not contains(ARGV[6], job.state) then return {'stale'} end
local due = now() + tonumber(ARGV[7])
move(job, 'retrying', ARGV[8], '_not_before', int(due), '_sends', '0')
redis.call('ZADD', WAITING, int(due), JOB_ID)
set_alarm(job.deadline and math.min(due, job.deadline) or due)
return {'ok'}
