-- Hands a foreign job that was submitted here to the system that runs it, in two steps: an agent takes it
-- out of the line, and says so when it has sent the task. If it does not, the job's alarm puts it back.
--
-- keys: prelude
-- args: 5 'take' or 'sent', 6 ms until it is put back, or until it is given up if nobody starts it
-- returns: {'ok'} | {'none'}: another agent has it, or it does not wait any more
-- events: none

local job = load()
if not job or not waits(job) then return {'none'} end
local due = now() + tonumber(ARGV[6])
if ARGV[5] == 'take' then
  if is_paused() or not in_line() then return {'none'} end
  take_turn()
else
  redis.call('HSET', JOB, '_sent', '1', '_give_up', int(due))
  leave_line()
end
look_at(job, due)
return {'ok'}
