-- The holder renews its lease and learns whether cancellation was asked for.
--
-- keys: prelude
-- args: 5 fence, 6 lease in ms
-- returns: {'ok', 1 if cancellation was asked for, else 0} | {'stale'}: another holds it, or it ended
-- events: none

local job = load()
if not job or job.state ~= 'running' or job.fence ~= ARGV[5] then return {'stale'} end
local lease = now() + tonumber(ARGV[6])
redis.call('HSET', JOB, '_lease', int(lease))
look_at(job, lease)
return {'ok', job.cancel_requested and 1 or 0}
