-- The live jobs of a feed, as they are at one moment.
--
-- keys: 1 the feed's last ids, then the owner's jobs in each live state, then, if it is a group's feed, the
--       jobs of the group. The keys of the jobs themselves follow from the ids found, so they cannot be
--       declared; they carry the same hash tag and lie in the same slot. It only reads.
-- args: 1 what comes before a job's id in its key, 2 how many live states there are
-- returns: {the feed's last id or '0-0', hash, hash, …}
-- events: none

local result = {redis.call('HGET', KEYS[1], 'any') or '0-0'}
local group = KEYS[tonumber(ARGV[2]) + 2]
for i = 2, tonumber(ARGV[2]) + 1 do
  local ids = group and redis.call('ZINTER', 2, KEYS[i], group) or redis.call('ZRANGE', KEYS[i], 0, -1)
  for _, id in ipairs(ids) do
    local job = redis.call('HGETALL', ARGV[1] .. id)
    if #job > 0 then result[#result + 1] = job end
  end
end
return result
