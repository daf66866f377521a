-- The holder reports: progress, logs, artifacts, in one batch.
--
-- keys: prelude
-- args: 5 fence, 6… the batch (reports.lua)
-- returns: {'ok', 1 if cancellation was asked for, else 0} | {'stale'}: another holds it, or it ended
-- events: progress, log, artifact, message, as given

--@include reports.lua

local job = load()
if not job or job.state ~= 'running' or job.fence ~= ARGV[5] then return {'stale'} end
write_reports(job, 6)
return {'ok', job.cancel_requested and 1 or 0}
