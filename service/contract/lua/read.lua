-- A job and its events after a cursor, as they are at one moment.
--
-- keys: 1 clock, 2 job, 3 events
-- args: 1 id after which to read, or '' for no events; 2 how many at most
-- returns: {clock's last id, the job's hash (empty: no such job), entries of the stream}
-- events: none

local clock = redis.call('HMGET', KEYS[1], 'ms', 'n')
local last = clock[1] and (clock[1] .. '-' .. clock[2]) or '0-0'
local job = redis.call('HGETALL', KEYS[2])
local entries = {}
if ARGV[1] ~= '' and #job > 0 then
  entries = redis.call('XRANGE', KEYS[3], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
end
return {last, job, entries}
