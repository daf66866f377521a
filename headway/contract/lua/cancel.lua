-- Cancels a job: at once if nobody runs it, else as a flag that its holder sees.
--
-- keys: prelude
-- args: 5 error (JSON) of a job that ends here, 6 reason (JSON string) of the event when cancellation is
--       only requested, 7 '1' if it was asked for here, so that it holds for the children, too
-- returns: {'canceled' | 'requested' | 'ended', document} | {'gone'}
-- events: end, or state (running), or none if it was requested before or had ended

local job = load()
if not job then return {'gone'} end
if ended(job) then return {'ended', document()} end
if waits(job) or job.state == 'waiting' then
  redis.call('HSET', JOB, 'cancel_requested', 'true')
  job.cancel_requested = ARGV[7] == '1'
  finish(job, 'canceled', 'null', ARGV[5], '')
  if job.foreign then revoke(job) end
  return {'canceled', document()}
end
if not job.cancel_requested then
  append(job, 'state', '{"state":"' .. job.state .. '","cancel_requested":true,"reason":' .. ARGV[6] .. '}',
    'cancel_requested', 'true')
end
return {'requested', document()}
