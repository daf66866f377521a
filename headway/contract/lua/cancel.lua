-- Somebody asks for a job's end: at once if nobody runs it, else as a flag that its holder sees.
--
-- keys: prelude
-- args: 5 states in which nobody runs it, 6 states it may be canceled from, 7 error (JSON) of a job
--       that ends here, 8 reason (JSON string) of the event when it is only asked for
-- returns: {'canceled' | 'requested' | 'ended', document} | {'gone'}
-- events: end, or state (running), or none if it was asked for before or had ended

local job = load()
if not job then return {'gone'} end
if not contains(ARGV[6], job.state) then return {'ended', document()} end
if contains(ARGV[5], job.state) then
  redis.call('HSET', JOB, 'cancel_requested', 'true')
  finish(job, 'canceled', 'null', ARGV[7], '')
  return {'canceled', document()}
end
if not job.cancel_requested then
  append(job, 'state', '{"state":"' .. job.state .. '","cancel_requested":true,"reason":' .. ARGV[8] .. '}',
    'cancel_requested', 'true')
end
return {'requested', document()}
