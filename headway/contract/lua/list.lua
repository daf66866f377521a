-- A part of a page of a listing, newest first, as it is at one moment.
--
-- keys: 1 an index of jobs. The keys of the jobs themselves follow from the ids found, so they cannot be
--       declared; they carry the same hash tag and lie in the same slot.
-- args: 1 what comes before a job's id in its key, 2 where to begin, as a score of ZRANGE, 3 most jobs,
--       4 most entries of the index to look at, 5 most bytes, 6 '1' if one job may have more than that; what
--       must match: 7 state, 8 type, 9 group (a job is also in that of its parent's children), as JSON texts,
--       or '' for any; 10… labels, name and value in turn
-- returns: {score of the last entry looked at, or '' if it was the last of all; looks that are left; bytes that
--          are left, below 0 if they ended it; hash, hash, …}, the hashes being names and values in turn of the
--          document's fields and some of the store's own
-- events: none

local FIELDS = {@DOCUMENT@, '_queue', '_not_before', '_children', '_waits_for', '_once', '_score'}
local most, looks, bytes = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local STEP = math.min(500, most + 1)
local jobs, from = {}, ARGV[2]
local reached = string.match(from, '^%((.+)$') or ''

local function reply() return {reached, looks, bytes, unpack(jobs)} end

local function has_labels(text)
  if #ARGV < 10 then return true end
  local labels = cjson.decode(text or '{}')
  for i = 10, #ARGV, 2 do
    if labels[ARGV[i]] ~= ARGV[i + 1] then return false end
  end
  return true
end

while true do
  local found = redis.call('ZRANGE', KEYS[1], from, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, STEP, 'WITHSCORES')
  for i = 1, #found, 2 do
    local id, score = found[i], found[i + 1]
    if #jobs == most or looks == 0 then return reply() end
    looks = looks - 1
    local key = ARGV[1] .. id
    local known = redis.call('HMGET', key, 'state', 'type', 'group', 'labels', 'parent')
    if not known[1] then
      redis.call('ZREM', KEYS[1], id)
    elseif (ARGV[7] == '' or known[1] == ARGV[7]) and (ARGV[8] == '' or known[2] == ARGV[8])
        and (ARGV[9] == '' or known[3] == ARGV[9] or known[5] == ARGV[9]) and has_labels(known[4]) then
      local job = {}
      for n, value in ipairs(redis.call('HMGET', key, unpack(FIELDS))) do
        if value then
          job[#job + 1] = FIELDS[n]
          job[#job + 1] = value
          bytes = bytes - #value
        end
      end
      if bytes < 0 and (jobs[1] or ARGV[6] == '') then return reply() end
      jobs[#jobs + 1] = job
    end
    reached = score
    from = '(' .. score
  end
  if #found < 2 * STEP then
    reached = ''
    return reply()
  end
end
