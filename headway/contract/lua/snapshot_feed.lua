-- The live jobs of a feed, as they are at one moment.
--
-- keys: 1 clock, 2 the feed's last ids, 3 the feed's jobs (of the owner, or of the group), 4 the group's
--       tally, or the feed's jobs again, 5… the owner's jobs in each live state. The keys of the jobs themselves follow from the ids found, so they cannot
--       be declared; they carry the same hash tag and lie in the same slot. It only reads.
-- args: 1 what comes before a job's id in its key; 2 'group' if it is the feed of one
-- returns: {clock's last id, the feed's last id or '0-0', {type, id, data} of the group's own last event or
--          {}, hash, hash, …}
-- events: none

local clock = redis.call('HMGET', KEYS[1], 'ms', 'n')
local result = {
  clock[1] and (clock[1] .. '-' .. clock[2]) or '0-0',
  redis.call('HGET', KEYS[2], 'any') or '0-0',
  ARGV[2] == 'group' and redis.call('HMGET', KEYS[4], 'event', 'id', 'data') or {},
}
for i = 5, #KEYS do
  for _, id in ipairs(redis.call('ZINTER', 2, KEYS[3], KEYS[i])) do
    local job = redis.call('HGETALL', ARGV[1] .. id)
    if #job > 0 then result[#result + 1] = job end
  end
end
return result
