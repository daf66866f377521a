-- What a feed keeps after a cursor, and which of its jobs have begun, as they are at one moment.
--
-- keys: 1 clock, 2 feed, 3 the feed's last ids, 4 the feed's jobs (of the owner, or of the group),
--       5 the owner's running jobs, 6 and 7 those that wait for their next attempt, or for something else,
--       8 the group's tally, if it is the feed of one. The keys of jobs follow from what the feed says, so they
--       cannot be declared; they carry the same hash tag and lie in the same slot.
-- args: 1 id after which to read, 2 how many at most, 3 what comes before a job's id in its key, 4 how many
--       bytes of events
-- returns: {clock's last id, or one before the cursor if that was lost (moment.lua), the machine's time in ms,
--           the feed's last id or '0-0', the last that it kept or '0-0', ids of the jobs that have begun,
--           entries of the stream, {type, id, data} of the group's own last event, or {}, '1' if there may be more
--           entries}
-- events: none

--@include moment.lua
--@include members.lua
--@include entries.lua

local DOCUMENT = {@DOCUMENT@}
local last = moment(KEYS[1], ARGV[1])
local time = redis.call('TIME')
local begun = {}
for i = 5, 7 do add_members(begun, KEYS[8] and KEYS[4], KEYS[i]) end
local ids = redis.call('HMGET', KEYS[3], 'any', 'stored')
local entries, more = entries_after(KEYS[2], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4]), function(fields)
  -- e, type, p, previous id, d, data, and for an end: j, id of the job, whose document is whole only in
  -- its own hash, and does not change any more.
  if fields[7] ~= 'j' then return end
  local values = redis.call('HMGET', ARGV[3] .. fields[8], unpack(DOCUMENT))
  if not values[1] then return end
  local parts = {}
  for i, name in ipairs(DOCUMENT) do parts[i] = '"' .. name .. '":' .. (values[i] or 'null') end
  fields[6] = '{' .. table.concat(parts, ',') .. '}'
end)
return {
  last, string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)),
  ids[1] or '0-0', ids[2] or '0-0', begun, entries,
  KEYS[8] and redis.call('HMGET', KEYS[8], 'event', 'id', 'data') or {}, more,
}
