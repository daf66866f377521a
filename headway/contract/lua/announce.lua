-- Makes foreign jobs whose messages were sent, unless they are there already: an announcement may be repeated,
-- and may come after the worker that started the job.
--
-- keys: prelude, of the first of the jobs; the others differ from it in their ids alone. Their keys are not
--       declared; they carry the same hash tag and lie in the same slot.
-- args: 5 how many of the following are fields that all jobs have, 6… these, name and value in turn; then for
--       each job: its id, ms until its alarm, how many of the following are its own fields, these
-- returns: {}
-- events: state (queued) of each job that was made

--@include make.lua

local job_key, events_key = string.sub(JOB, 1, -#JOB_ID - 1), string.sub(EVENTS, 1, -#JOB_ID - 1)
local shared = tonumber(ARGV[5])
local at = 6 + shared
while at <= #ARGV do
  JOB_ID, JOB, EVENTS = ARGV[at], job_key .. ARGV[at], events_key .. ARGV[at]
  local own = tonumber(ARGV[at + 2])
  if redis.call('EXISTS', JOB) == 0 then
    local fields = {}
    for i = 6, 5 + shared do fields[#fields + 1] = ARGV[i] end
    for i = at + 3, at + 2 + own do fields[#fields + 1] = ARGV[i] end
    make(tonumber(ARGV[at + 1]), fields)
  end
  at = at + 3 + own
end
return {}
