-- Lets the alarms of jobs that wait for a queue go off now, the first in its line first: it was paused, and
-- their messages may have been dropped meanwhile.
--
-- keys: 1 the jobs that wait for the queue, 2 alarms
-- args: 1 how many jobs at most
-- returns: {how many}
-- events: none

local CLOCK
--@include clock.lua

local time = int(now())
local waiting = redis.call('ZRANGE', KEYS[1], '-inf', '(1e15', 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(waiting) do redis.call('ZADD', KEYS[2], 'XX', 'LT', time, id) end
return {#waiting}
