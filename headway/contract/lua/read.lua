-- A job and its events after a cursor, as they are at one moment.
--
-- keys: 1 clock, 2 job, 3 events
-- args: 1 id after which to read, or '' for no events; 2 how many at most; 3 'brief': of the job only
--       what tells whose it is and where it stands; 4 the only owner whose job it may be, as JSON, or '':
--       of another's nothing is read, or the time would tell that it is there; 5 how many bytes of events
-- returns: {clock's last id, or one before the cursor if that was lost (moment.lua), the job's hash (empty: no
--           such job), entries of the stream, '1' if there may be more}
-- events: none

--@include moment.lua
--@include entries.lua

local last = moment(KEYS[1], ARGV[1])
if ARGV[4] ~= '' and redis.call('HGET', KEYS[2], 'owner') ~= ARGV[4] then
  return {last, {}, {}, ''}
end
local job
if ARGV[3] == 'brief' then
  local values = redis.call('HMGET', KEYS[2], 'id', 'last_event_id', 'finished_at', 'owner', 'group')
  job = values[1] and {'id', values[1], 'last_event_id', values[2], 'finished_at', values[3] or 'null',
    'owner', values[4], 'group', values[5]} or {}
else
  job = redis.call('HGETALL', KEYS[2])
end
local entries, more = {}, ''
if ARGV[1] ~= '' and #job > 0 then
  entries, more = entries_after(KEYS[3], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5]))
end
return {last, job, entries, more}
