-- Which jobs of a feed live, as it is at one moment. Their documents are read afterwards, some at a time: there may
-- be thousands.
--
-- keys: 1 clock, 2 the feed's last ids, 3 the feed's jobs (of the owner, or of the group), 4 the group's
--       tally, or the feed's jobs again, 5… the owner's jobs in each live state
-- args: 1 'group' if it is the feed of one
-- returns: {clock's last id, the feed's last id or '0-0', {type, id, data} of the group's own last event or
--          {}, id of a job, id, …}
-- events: none

--@include moment.lua
--@include members.lua

local result = {
  moment(KEYS[1]),
  redis.call('HGET', KEYS[2], 'any') or '0-0',
  ARGV[1] == 'group' and redis.call('HMGET', KEYS[4], 'event', 'id', 'data') or {},
}
for i = 5, #KEYS do add_members(result, ARGV[1] == 'group' and KEYS[3], KEYS[i]) end
return result
