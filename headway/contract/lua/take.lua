-- A worker takes the job that is next in the line of a queue: next.lua and claim.lua in one.
--
-- keys: 1 clock, 2 alarms, 3 expiring, 4 the owners in the line, 5 what is paused, 6 what this worker took last
-- args: 1 what comes before the id in the keys of the partition's jobs, 2 to 4 prelude; 5 token of this claim (as in
--       claim.lua), 6 lease in ms, 7 the worker as a JSON string, 8 the queue; 9… the types, as JSON texts
-- returns: {'claimed', …} as claiming.lua's claim | {'none'}: no job is in the line, or it cannot be had
-- events: state (running)

--@include search.lua
--@include claiming.lua

-- A name, given as JSON text, as keys.py spells it.
local function spelled(text)
  return (string.gsub(cjson.decode('[' .. text .. ']')[1], '[^%w_.~-]',
    function(char) return string.format('%%%02X', string.byte(char)) end))
end

-- Has the script work on a job of the partition. Its keys are not declared; they have the same hash tag, so they
-- lie in the same slot. Keys.write_set makes the same ones.
local function work_on(found, owner)
  local id = found[1]
  local queue = string.sub(KEYS[4], #HEAD + #'line:' + 1)
  local keys = {CLOCK, ALARMS, EXPIRING, ARGV[1] .. id, HEAD .. 'events:' .. id, HEAD .. 'unread:' .. id,
    HEAD .. 'feed:owner:' .. owner, HEAD .. 'last:feed:owner:' .. owner, HEAD .. 'jobs:' .. owner}
  local function add(name) keys[#keys + 1] = HEAD .. name end
  for _, state in ipairs(STATES) do add('jobs:' .. owner .. ':' .. state) end
  add('waiting:' .. queue)
  add('turns:' .. queue)
  add('orphans')
  local group, parent = found[3], found[6]
  for _, name in ipairs(group == parent and {group} or {group, parent}) do
    if name and name ~= 'null' then
      local of = owner .. ':' .. spelled(name)
      add('feed:group:' .. of)
      add('last:feed:group:' .. of)
      add('group:' .. of)
      add('tally:' .. of)
      add('groups')
    end
  end
  bind(keys, id)
end

local token, lease_ms = ARGV[5], tonumber(ARGV[6])
local id = string.match(redis.call('GET', KEYS[6]) or '', '^' .. string.gsub(token, '%-', '%%-') .. ' (.*)$')
local found, owner
if id then
  -- The same again: the reply to the first was lost.
  local job = redis.call('HMGET', ARGV[1] .. id, 'owner', 'group', '_once', 'type', 'parent')
  if not job[1] then return {'none'} end
  found = {id, job[1], job[2], job[3], job[4], job[5]}
  owner = spelled(job[1])
else
  found, owner = next_in(KEYS[4], KEYS[5], ARGV[1], ARGV[8], ARGV, 9)
  if not found then return {'none'} end
end
work_on(found, owner)
local reply = claim(token, lease_ms, ARGV[7])
if reply[1] ~= 'claimed' then return {'none'} end
redis.call('SET', KEYS[6], token .. ' ' .. found[1], 'PX', lease_ms)
return reply
