-- Owes an event to a webhook once more.
--
-- keys: prelude
-- args: 5 webhook_member, 6 the event's id
-- returns: {'owed'} | {'refused'}: the webhook is disabled, or owed too much | {'gone'}: the event is not kept
-- events: none

local found = redis.call('XRANGE', EVENTS, ARGV[6], ARGV[6])
if not found[1] then return {'gone'} end
local values = {}
for i = 1, #found[1][2], 2 do values[found[1][2][i]] = found[1][2][i + 1] end
local url = ''
if redis.call('HGET', HEAD .. 'webhook:' .. ARGV[5], 'url') == '' then
  url = redis.call('HGET', JOB, '_hook_url') or ''
end
return {owe(ARGV[5], ARGV[6], values.e, url, values.d) and 'owed' or 'refused'}
