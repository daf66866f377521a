-- Makes many jobs of one owner, or none: what create.lua does for one.
--
-- keys: for each of the places that jobs can have (queue and group) the prelude's, with those of the first job;
--       then those of each job (job, events, unread messages); the owner's bucket; last: what the batch made,
--       if arg 5 is not ''
-- args: 1 the first job's id, 2 to 4 prelude; 5 hash of the body with idempotency, or ''; 6 ms until the first
--       alarm; 7 submissions a second that the owner may make, 8 how many at once, 9 how many live jobs it may
--       have (0: no such limit); 10 the places (JSON): how many keys each has; 11 the jobs (JSON): for each its
--       id, its place, the ms that it may wait from its time on, and how many of the following args it has;
--       12… the jobs' fields, name and value in turn
-- returns: {'created' or 'same', "<1 if it is new, else 0> <id>" for each job, separated by spaces}
--          | {'conflict'} | {'too_fast', ms until there are tokens} | {'too_many'}: live jobs
-- events: state (queued), for each

--@include creation.lua

local once_hash = ARGV[5]
if once_hash ~= '' then
  local before = redis.call('GET', KEYS[#KEYS])
  if before then
    local hash, made = string.match(before, '^(%S+) (.*)$')
    return hash == once_hash and {'same', made} or {'conflict'}
  end
end

local jobs = cjson.decode(ARGV[11])
local refusal = refuse(tonumber(ARGV[9]), tonumber(ARGV[7]), tonumber(ARGV[8]),
  KEYS[#KEYS - (once_hash ~= '' and 1 or 0)], #jobs)
if refusal then return refusal end

local places, at = {}, 0
for i, count in ipairs(cjson.decode(ARGV[10])) do
  places[i] = {unpack(KEYS, at + 1, at + count)}
  at = at + count
end
local arg, made = 12, {}
for i, job in ipairs(jobs) do
  local id, keys = job[1], places[job[2]]
  keys[4], keys[5], keys[6] = unpack(KEYS, at + 1, at + 3)
  at = at + 3
  bind(keys, id)
  local given, fields = {unpack(ARGV, arg, arg + job[4] - 1)}, {}
  arg = arg + job[4]
  for n = 1, #given, 2 do fields[given[n]] = given[n + 1] end
  local holder = holder_of(fields._unique)
  if not holder then make(given, fields, tonumber(ARGV[6]), job[3]) end
  made[i] = (holder and '0 ' or '1 ') .. (holder or id)
end
made = table.concat(made, ' ')
if once_hash ~= '' then redis.call('SET', KEYS[#KEYS], once_hash .. ' ' .. made, 'EX', RETENTION_S) end
return {'created', made}
