-- Finding the job that is next in a line (line.lua), for scripts that take or look for one.

local OWNERS, JOBS = 100, 50 -- Looked at: so many owners, and so many jobs of each;
local DEEP, MOST = 1000, 5000 -- if none of these will do, so many jobs of each, and of all together.

-- Returns nothing, or id, owner, group, idempotency key, type and parent (JSON texts, but for id and key) of the
-- job that is next in `line`, the owners in the line of `queue`. `jobs` comes before the id in the keys of the
-- partition's jobs; the types in `args` from `at` on are wanted, as JSON texts; without any, all.
local function next_in(line, paused_key, jobs, queue, args, at)
  if redis.call('HEXISTS', paused_key, 'queue:' .. queue) == 1 then return end
  local wanted, any = {}, not args[at]
  for i = at, #args do wanted[args[i]] = true end
  local paused = {}
  local function is_paused(type)
    if paused[type] == nil then
      paused[type] = redis.call('HEXISTS', paused_key, 'type:' .. string.sub(type, 2, -2)) == 1
    end
    return paused[type]
  end
  -- The keys of an owner's line and of the jobs are not declared; they have the same hash tag, so they lie in
  -- the same slot. Returns the job and its owner, or nothing and how many were looked at.
  local function look(owner, from, to)
    local ids = redis.call('ZRANGE', line .. ':' .. owner, from, to)
    for _, id in ipairs(ids) do
      local job = redis.call('HMGET', jobs .. id, 'owner', 'group', '_once', 'type', 'parent')
      local type = job[4]
      if type and (any or wanted[type]) and not is_paused(type) then
        return {id, job[1], job[2], job[3], type, job[5]}, owner
      end
    end
    return nil, #ids
  end
  local owners = {}
  for place = 0, OWNERS - 1 do
    local owner = redis.call('ZRANGE', line, place, place)[1]
    if not owner then break end
    -- Most often the first job will do.
    for _, part in ipairs({{0, 0}, {1, JOBS - 1}}) do
      local job, whose = look(owner, part[1], part[2])
      if job then return job, whose end
    end
    owners[#owners + 1] = owner
  end
  local left = MOST
  for _, owner in ipairs(owners) do
    for from = JOBS, DEEP - 1, JOBS do
      local job, looked = look(owner, from, from + JOBS - 1)
      if job then return job, looked end
      left = left - looked
      if left <= 0 then return end
      if looked < JOBS then break end
    end
  end
end
