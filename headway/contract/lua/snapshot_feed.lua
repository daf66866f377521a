-- The live jobs of a feed, as they are at one moment.
--
-- keys: 1 the feed's last ids, 2… the owner's jobs in each live state. The keys of the jobs themselves
--       follow from the ids found, so they cannot be declared; they carry the same hash tag and lie in
--       the same slot. It only reads.
-- args: 1 what comes before a job's id in its key, 2 the group as JSON text, or '' for all
-- returns: {the feed's last id or '0-0', hash, hash, …}
-- events: none

local result = {redis.call('HGET', KEYS[1], 'any') or '0-0'}
for i = 2, #KEYS do
  for _, id in ipairs(redis.call('ZRANGE', KEYS[i], 0, -1)) do
    local key = ARGV[1] .. id
    if ARGV[2] == '' or redis.call('HGET', key, 'group') == ARGV[2] then
      local job = redis.call('HGETALL', key)
      if #job > 0 then result[#result + 1] = job end
    end
  end
end
return result
