-- Makes foreign jobs whose messages were sent, unless they are there already: an announcement may be repeated,
-- and may come after the worker that started the job.
--
-- keys: prelude, of the first of the jobs; the others differ from it in their ids alone. Their keys are not
--       declared; they carry the same hash tag and lie in the same slot.
-- args: 5 how many of the following are fields that all jobs have, 6… these, name and value in turn; then for
--       each job: its id, ms until its alarm, how many of the following are its own fields, these
-- returns: {}
-- events: state (queued) of each job that was made

--@include creation.lua

local before = {}
for i = 4, 6 do before[i] = string.sub(KEYS[i], 1, -#JOB_ID - 1) end
local shared = tonumber(ARGV[5])
local at = 6 + shared
while at <= #ARGV do
  local own = tonumber(ARGV[at + 2])
  JOB_ID = ARGV[at]
  JOB, EVENTS, UNREAD = before[4] .. JOB_ID, before[5] .. JOB_ID, before[6] .. JOB_ID
  if redis.call('EXISTS', JOB) == 0 then
    local given, fields = {unpack(ARGV, 6, 5 + shared)}, {}
    for i = at + 3, at + 2 + own do given[#given + 1] = ARGV[i] end
    for i = 1, #given, 2 do fields[given[i]] = given[i + 1] end
    make(given, fields, tonumber(ARGV[at + 1]), 0)
  end
  at = at + 3 + own
end
return {}
