-- Sends a message to a job: an event, and kept for the task until it has read it.
--
-- keys: prelude; last: the idempotency key, if arg 5 is not ''
-- args: 5 hash of the request with idempotency, or ''; 6 how long its key is remembered, in ms; 7 body (text
--       of a JSON object); 8 messages a second that the job takes, 9 how many at once, 10 how many unread
-- returns: {'sent' | 'same', event's id, event's data}: `same` if the key has sent it before
--          | {'conflict'}: the key belongs to another request | {'too_fast', ms until it takes one}
--          | {'full'}: too many are unread | {'ended'} | {'gone'}
-- events: message

local once_hash, body = ARGV[5], ARGV[7]
local job = load()
if not job then return {'gone'} end
if once_hash ~= '' then
  local hash, id, attempt = string.match(redis.call('GET', KEYS[#KEYS]) or '', '^(%S+) (%S+) (%S+)$')
  if hash then
    if hash ~= once_hash then return {'conflict'} end
    local at = rfc3339(tonumber(string.match(id, '^%d+')))
    return {'same', id, with_head({attempt = attempt}, at, body)}
  end
end
if ended(job) then return {'ended'} end
if redis.call('XLEN', UNREAD) >= tonumber(ARGV[10]) then return {'full'} end
local wait = take_token(JOB, '_tokens', '_tokens_at', tonumber(ARGV[8]), tonumber(ARGV[9]))
if wait then return {'too_fast', wait} end

local data = append(job, 'message', body)
redis.call('XADD', UNREAD, job.last, 'd', data)
if job.state == 'waiting' then look_whether_it_waits(job) end
if once_hash ~= '' then
  redis.call('SET', KEYS[#KEYS], once_hash .. ' ' .. job.last .. ' ' .. job.attempt, 'PX', ARGV[6])
end
return {'sent', job.last, data}
