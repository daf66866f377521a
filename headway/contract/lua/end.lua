-- The holder ends the job. Its `end` is the last event there will ever be.
--
-- keys: prelude
-- args: 5 fence, 6 states it may come from, 7 the state it ends in, 8 result (JSON), 9 error (JSON),
--       10 the last progress (JSON), or '' to leave it
-- returns: {'ok'} | {'stale'}: another holds it, or it ended otherwise
-- events: end

local job = load()
if not job or job.fence ~= ARGV[5] then return {'stale'} end
-- The same end again: the reply to the first was lost.
if job.state == ARGV[7] then return {'ok'} end
if not contains(ARGV[6], job.state) then return {'stale'} end
finish(job, ARGV[7], ARGV[8], ARGV[9], ARGV[10])
return {'ok'}
