-- Reads a group, sets what is expected of it, or tells its feed how it is.
--
-- keys: 1 clock, 2 the groups of which something is to be told, 3 the group's tally, 4 its jobs, 5 its feed,
--       6 the feed's last ids, 7… the owner's jobs in each state, in the order of states.py
-- args: 1 'get', 'put' or 'tell'; 2 cap of a feed, 3 retention in seconds, 4 the group's name (JSON), 5 how
--       many jobs are expected, or '', 6 title (JSON)
-- returns: {document}, of `tell` {document} or {} if it is not due | {} if there is no such group
-- events: group, group-end

local CLOCK, GROUPS_DUE, TALLY, GROUP_JOBS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local GROUP_FEED = {KEYS[5], KEYS[6]}
local FEED_CAP, RETENTION_S = ARGV[2], tonumber(ARGV[3])
local STATES = {@STATES@}
local INDEX = {}
for i, state in ipairs(STATES) do INDEX[state] = KEYS[6 + i] end
local JOB

--@include clock.lua
--@include tally.lua

local action = ARGV[1]
if action ~= 'put' and redis.call('EXISTS', TALLY, GROUP_JOBS) == 0 then
  redis.call('ZREM', GROUPS_DUE, TALLY)
  return {}
end
open_tally(ARGV[4])
if action == 'tell' then
  local due = tonumber(redis.call('ZSCORE', GROUPS_DUE, TALLY) or '')
  if not due or due > now() then return {} end
  tell_group('group')
elseif action == 'put' then
  if ARGV[5] == '' then
    redis.call('HDEL', TALLY, 'expected')
  else
    redis.call('HSET', TALLY, 'expected', ARGV[5])
  end
  redis.call('HSET', TALLY, 'title', ARGV[6])
  -- Without a job there is nothing that removes it.
  if redis.call('EXISTS', GROUP_JOBS) == 0 then redis.call('EXPIRE', TALLY, RETENTION_S) end
  tell_soon()
  settle_group()
end
return {(tally_document())}
