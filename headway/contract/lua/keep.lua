-- A web process says that it lives, and learns who else does: they share the partitions among them. The layout
-- is written again, should the store have lost it.
--
-- keys: 1 keepers, 2 layout
-- args: 1 the process, 2 ms for which it counts as alive (0: it ends), 3… the layout's fields as it knows them,
--       name and value in turn
-- returns: {number of partitions, process, process, …}
-- events: none

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('HSET', KEYS[2], unpack(ARGV, 3)) end
return {redis.call('HGET', KEYS[2], 'partitions'), unpack(redis.call('ZRANGE', KEYS[1], 0, -1))}
