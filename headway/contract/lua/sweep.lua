-- Removes an ended job: its hash, its events, its entries in the indexes, its idempotency key. What the
-- feeds keep of it stays.
--
-- keys: prelude; last: the idempotency key, if arg 6 is 1
-- args: 5 '1' to remove it only if its retention is over, 6 how many idempotency keys there are
-- returns: {'swept'} | {'early'}: its retention is not over | {'live'} | {'gone'}: another was first
-- events: none

local job = load()
if not job then return {'gone'} end
if not ended(job) then return {'live'} end
local due = redis.call('ZSCORE', EXPIRING, JOB_ID)
if ARGV[5] == '1' and due and tonumber(due) > now() then return {'early'} end
redis.call('ZREM', EXPIRING, JOB_ID)
redis.call('ZREM', ALL_JOBS, JOB_ID)
for _, index in pairs(INDEX) do redis.call('ZREM', index, JOB_ID) end
if job.counted then count(job.counted, job.state, nil) end
-- What a tally has counted stays counted, as long as there is any job of the group.
open_tallies()
for _, group in ipairs(GROUPS) do
  redis.call('ZREM', group.jobs, JOB_ID)
  if redis.call('EXISTS', group.jobs) == 0 then
    redis.call('DEL', group.tally)
    redis.call('ZREM', group.due, group.tally)
  end
end
redis.call('DEL', JOB, EVENTS)
if ARGV[6] == '1' then
  local once = redis.call('GET', KEYS[#KEYS])
  if once and string.match(once, ' (%S+)$') == JOB_ID then redis.call('DEL', KEYS[#KEYS]) end
end
return {'swept'}
