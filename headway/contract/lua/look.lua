-- What is to be done in a partition, for the process that keeps it. It says with it that it reaches the store:
-- if none did for a while, the store was away (or all of them were), and a healthy worker could not renew its
-- lease either: leases get a grace.
--
-- keys: 1 watch, 2 alarms, 3 the groups of which something is to be told, 4 orphans
-- args: 1 silence in ms that counts as an absence, 2 grace in ms, 3 most of each kind
-- returns: {ids of jobs whose alarm is due, tallies of groups whose feed is to be told, ids of jobs that have
--          ended though their children may live}, the longest overdue first
-- events: none

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local text = string.format('%.0f', now)
local at = redis.call('HGET', KEYS[1], 'at')
if at and now - tonumber(at) > tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'grace_until', string.format('%.0f', now + tonumber(ARGV[2])))
end
redis.call('HSET', KEYS[1], 'at', text, 'silence', ARGV[1], 'grace', ARGV[2])
return {
  redis.call('ZRANGE', KEYS[2], '-inf', text, 'BYSCORE', 'LIMIT', 0, ARGV[3]),
  redis.call('ZRANGE', KEYS[3], '-inf', text, 'BYSCORE', 'LIMIT', 0, ARGV[3]),
  redis.call('ZRANGE', KEYS[4], 0, ARGV[3] - 1),
}
