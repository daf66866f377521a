-- Finds the job that is next in the line of a queue.
--
-- keys: 1 the jobs that wait for the queue
-- args: 1 what comes before the id in the keys of the partition's jobs
-- returns: {} | {id, owner (JSON), group (JSON), idempotency key, type (JSON)}
-- events: none

local first = redis.call('ZRANGE', KEYS[1], '-inf', '(1e15', 'BYSCORE', 'LIMIT', 0, 1)[1]
if not first then return {} end
-- The key of the job is not declared; it has the same hash tag, so it lies in the same slot.
local job = redis.call('HMGET', ARGV[1] .. first, 'owner', 'group', '_once', 'type')
return {first, job[1], job[2], job[3], job[4]}
