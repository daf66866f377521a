-- The holder ends the job. Its `end` is the last event there will ever be.
--
-- keys: prelude
-- args: 5 fence, 6 the state it ends in, 7 result (JSON), 8 error (JSON), 9 the last progress (JSON), or ''
--       to leave it, 10… its last reports, or none (reports.lua)
-- returns: {'ok'} | {'stale'}: another holds it, or it ended otherwise
-- events: those of the reports, end

--@include reports.lua

local job = load()
if not job or job.fence ~= ARGV[5] then return {'stale'} end
-- The same end again: the reply to the first was lost.
if job.state == ARGV[6] then return {'ok'} end
-- An attempt that was given up holds nothing any more, even while no other has begun and its fence is
-- still the newest.
if job.state ~= 'running' then return {'stale'} end
write_reports(job, 10)
finish(job, ARGV[6], ARGV[7], ARGV[8], ARGV[9])
return {'ok'}
