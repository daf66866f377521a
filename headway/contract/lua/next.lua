-- Finds the job that is next in the line of a queue (line.lua), among those of some types.
--
-- keys: 1 the owners in the line, 2 what is paused
-- args: 1 what comes before the id in the keys of the partition's jobs, 2 the queue; 3… the types, as JSON
--       texts; without any, all
-- returns: {} | {id, owner (JSON), group (JSON), idempotency key, type (JSON), parent (JSON)}
-- events: none

local OWNERS, JOBS = 100, 50 -- Looked at: so many owners, and so many jobs of each.

if redis.call('HEXISTS', KEYS[2], 'queue:' .. ARGV[2]) == 1 then return {} end
local wanted, any = {}, #ARGV == 2
for i = 3, #ARGV do wanted[ARGV[i]] = true end
local paused = {}
local function is_paused(type)
  if paused[type] == nil then
    paused[type] = redis.call('HEXISTS', KEYS[2], 'type:' .. string.sub(type, 2, -2)) == 1
  end
  return paused[type]
end

for at = 0, OWNERS - 1 do
  local owner = redis.call('ZRANGE', KEYS[1], at, at)[1]
  if not owner then return {} end
  -- The keys of an owner's line and of the jobs are not declared; they have the same hash tag, so they lie
  -- in the same slot. Most often the first job will do.
  for _, part in ipairs({{0, 0}, {1, JOBS - 1}}) do
    for _, id in ipairs(redis.call('ZRANGE', KEYS[1] .. ':' .. owner, part[1], part[2])) do
      local job = redis.call('HMGET', ARGV[1] .. id, 'owner', 'group', '_once', 'type', 'parent')
      local type = job[4]
      if type and (any or wanted[type]) and not is_paused(type) then
        return {id, job[1], job[2], job[3], type, job[5]}
      end
    end
  end
end
return {}
