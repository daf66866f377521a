-- What a feed keeps after a cursor, and which jobs have begun, as they are at one moment.
--
-- keys: 1 clock, 2 feed, 3 the feed's last ids, 4 the feed's jobs (of the owner, or of the group),
--       5 the owner's running jobs, 6 those that wait for their next attempt
-- args: 1 id after which to read; 2 how many at most
-- returns: {clock's last id, the machine's time in ms, the feed's last id or '0-0',
--           ids of those jobs, entries of the stream}
-- events: none

local clock = redis.call('HMGET', KEYS[1], 'ms', 'n')
local last = clock[1] and (clock[1] .. '-' .. clock[2]) or '0-0'
local time = redis.call('TIME')
local begun = redis.call('ZINTER', 2, KEYS[4], KEYS[5])
for _, id in ipairs(redis.call('ZINTER', 2, KEYS[4], KEYS[6])) do begun[#begun + 1] = id end
return {
  last, string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)),
  redis.call('HGET', KEYS[3], 'any') or '0-0',
  begun,
  redis.call('XRANGE', KEYS[2], '(' .. ARGV[1], '+', 'COUNT', ARGV[2]),
}
