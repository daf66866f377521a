-- Removes an ended job whose retention is over.
--
-- keys: prelude
-- args: prelude's only
-- returns: {'swept'} | {'none'}: it is not due, or another process was first
-- events: none

local due = redis.call('ZSCORE', EXPIRING, JOB_ID)
if not due or tonumber(due) > now() then return {'none'} end
redis.call('ZREM', EXPIRING, JOB_ID)
redis.call('ZREM', ALL_JOBS, JOB_ID)
for _, index in pairs(INDEX) do redis.call('ZREM', index, JOB_ID) end
if GROUP_JOBS then redis.call('ZREM', GROUP_JOBS, JOB_ID) end
redis.call('DEL', JOB, EVENTS)
return {'swept'}
