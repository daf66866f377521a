-- Reads a group, sets what is expected of it, or tells its feed how it is.
--
-- keys: 1 clock, 2 the groups of which something is to be told, 3 the group's tally, 4 its jobs, 5 its feed,
--       6 the feed's last ids, 7… the owner's jobs in each state, in the order of states.py
-- args: 1 'get', 'put', 'expect' (if nobody has said it before) or 'tell'; 2 cap of a feed, 3 retention in
--       seconds, 4 the group's name (JSON), 5 how many jobs are expected, or '', 6 title (JSON)
-- returns: {document}, of `tell` {document} or {} if it is not due | {} if there is no such group
-- events: group, group-end

local CLOCK = KEYS[1]
local GROUP = {due = KEYS[2], tally = KEYS[3], jobs = KEYS[4], feed = KEYS[5], last = KEYS[6]}
local FEED_CAP, RETENTION_S = ARGV[2], tonumber(ARGV[3])
local STATES = {@STATES@}
local INDEX = {}
for i, state in ipairs(STATES) do INDEX[state] = KEYS[6 + i] end

--@include clock.lua
--@include tally.lua

local action = ARGV[1]
local there = redis.call('EXISTS', GROUP.tally, GROUP.jobs) > 0
if (action == 'get' or action == 'tell') and not there then
  redis.call('ZREM', GROUP.due, GROUP.tally)
  return {}
end
open_tally(GROUP, ARGV[4])
if action == 'tell' then
  local due = tonumber(redis.call('ZSCORE', GROUP.due, GROUP.tally) or '')
  if not due or due > now() then return {} end
  tell_group(GROUP, 'group')
elseif action ~= 'get' then
  if action == 'expect' then
    redis.call('HSETNX', GROUP.tally, 'expected', ARGV[5])
  else
    redis.call('HDEL', GROUP.tally, 'expected', 'lost')
    if ARGV[5] ~= '' then redis.call('HSET', GROUP.tally, 'expected', ARGV[5]) end
    redis.call('HSET', GROUP.tally, 'title', ARGV[6])
  end
  -- Without a job there is nothing that removes it.
  if redis.call('EXISTS', GROUP.jobs) == 0 then redis.call('EXPIRE', GROUP.tally, RETENTION_S) end
  tell_soon(GROUP)
  settle_group(GROUP)
end
return {(tally_document(GROUP))}
