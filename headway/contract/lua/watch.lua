-- An alarm loop says that it reaches the store. If none did for a while, the store was away (or all of
-- them were), and a healthy worker could not renew its lease either: leases get a grace.
--
-- keys: 1 watch
-- args: 1 silence in ms that counts as an absence, 2 grace in ms
-- returns: {}
-- events: none

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = redis.call('HGET', KEYS[1], 'at')
if at and now - tonumber(at) > tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'grace_until', string.format('%.0f', now + tonumber(ARGV[2])))
end
redis.call('HSET', KEYS[1], 'at', string.format('%.0f', now), 'silence', ARGV[1], 'grace', ARGV[2])
return {}
