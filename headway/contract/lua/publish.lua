-- The holder publishes an artifact. Unlike a batch of reports it may come from any connection of the
-- holder's, beside others, so what it changes is compared and not numbered.
--
-- keys: prelude
-- args: 5 fence, 6 the job's artifacts (JSON) as they were read, 7 as they shall be, 8 body of the event
-- returns: {'ok', 1 if cancellation was asked for, else 0} | {'changed'}: read them again
--          | {'stale'}: another holds it, or it ended
-- events: artifact

local job = load()
if not job or job.state ~= 'running' or job.fence ~= ARGV[5] then return {'stale'} end
if redis.call('HGET', JOB, 'artifacts') ~= ARGV[6] then return {'changed'} end
append(job, 'artifact', ARGV[8], 'artifacts', ARGV[7])
return {'ok', job.cancel_requested and 1 or 0}
