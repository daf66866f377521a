-- Shows in the bar of a job that waits for its children how far they are.
--
-- keys: prelude
-- args: 5 progress (JSON)
-- returns: {'ok'} | {'none'}: it does not wait
-- events: progress

local job = load()
if not job or job.state ~= 'waiting' then return {'none'} end
append(job, 'progress', ARGV[5], 'progress', ARGV[5])
recount_progress(ARGV[5])
return {'ok'}
