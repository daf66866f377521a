-- The holder gives up this attempt; another follows after a delay, unless cancellation was asked for.
--
-- keys: prelude
-- args: 5 fence, 6 delay in ms, 7 reason (JSON string), 8 '1' if the attempt does not count (a stopping
--       worker released it), 9 error (JSON) of a cancellation
-- returns: {'ok'} | {'stale'}: another holds it, or it ended
-- events: state (retrying), or end

local job = load()
if not job or job.fence ~= ARGV[5] then return {'stale'} end
-- The same once more: the reply to the first was lost.
if job.state == 'retrying' then return {'ok'} end
if job.state ~= 'running' then return {'stale'} end
-- The holder had not heard of it yet, and the next would be started only to end.
if job.cancel_requested then
  finish(job, 'canceled', 'null', ARGV[9], '')
  return {'ok'}
end
if ARGV[8] == '1' then redis.call('HINCRBY', JOB, '_handed_back', 1) end
give_back(job, ARGV[7], now() + tonumber(ARGV[6]))
return {'ok'}
