-- The holder gives its place back until its children have ended, or until there is a message for it. Then
-- the same attempt is continued, by whoever claims it.
--
-- keys: prelude
-- args: 5 fence, 6 what it waits for: 'children' or 'message', 7 ms for which it waits at most, or '',
--       8 reason (JSON string), 9 the children's place in its bar (JSON), or '', 10 error (JSON) of a
--       cancellation
-- returns: {'ok'} | {'stale'}: another holds it, or it ended
-- events: state (waiting), or end

local job = load()
if not job or job.fence ~= ARGV[5] then return {'stale'} end
-- The same once more: the reply to the first was lost.
if job.state == 'waiting' or redis.call('HGET', JOB, '_continues') then return {'ok'} end
if job.state ~= 'running' then return {'stale'} end
-- The holder had not heard of it yet.
if job.cancel_requested then
  finish(job, 'canceled', 'null', ARGV[10], '')
  return {'ok'}
end
local until_ = ARGV[7] == '' and '' or int(now() + tonumber(ARGV[7]))
move(job, 'waiting', ARGV[8], '_waits_for', ARGV[6], '_wait_until', until_, '_bar', ARGV[9])
look_whether_it_waits(job)
return {'ok'}
