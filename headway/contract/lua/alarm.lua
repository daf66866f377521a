-- Answers one job's alarm, if it is due. It is set anew in the same step, so no crash can lose it, and
-- any number of processes may answer: all but the first find it not due.
--
-- keys: prelude; last: watch (look.lua)
-- args: 5 first delay in ms before a message is sent again, 6 the longest such delay,
--       7 error (JSON) of a lost worker, 8 error of a deadline that is over, 9 error of a cancellation,
--       10 reason (JSON string) of the next attempt, 11 that of a job which need not wait any more, 12 error of
--       a foreign job whose worker was lost, 13 error of one that nobody has started, 14 error of a job that
--       has not begun before it expires
-- returns: {'send', type (JSON), queue, how often it was asked for in a row, why, attempt, trace or ''}: send the
--          message (again); why is 'worker_lost', 'retry_due', 'run_at', 'woken' or 'unclaimed'
--          | {'ended', type (JSON), state, error (JSON), attempt, trace or ''} | {'none'}
-- events: state (retrying) or end when a lease or the deadline is over, state (queued) when a job need not
--         wait any more

local due = redis.call('ZSCORE', ALARMS, JOB_ID)
local time = now()
if not due or tonumber(due) > time then return {'none'} end
local job = load()
if not job or not INDEX[job.state] or ended(job) then
  redis.call('ZREM', ALARMS, JOB_ID)
  return {'none'}
end

local function over(state, error)
  finish(job, state, 'null', error, '')
  local kept = redis.call('HMGET', JOB, 'type', '_trace')
  return {'ended', kept[1], state, error, job.attempt, kept[2] or ''}
end

local late = job.deadline and job.deadline <= time
if late or waits(job) and job.expires and job.expires <= time then
  if job.foreign and waits(job) then revoke(job) end
  return over('failed', late and ARGV[8] or ARGV[14])
end
-- Its messages are another system's: all that can be done is to wait for a start, and not for ever.
if job.foreign and waits(job) and job.sent then
  local give_up = job.give_up or time
  if give_up <= time then
    return over('failed', job.lost and ARGV[12] or ARGV[13])
  end
  look_at(job, give_up)
  return {'none'}
end
local why = 'unclaimed'
if job.state == 'waiting' then
  local woken = look_whether_it_waits(job)
  if not woken then return {'none'} end
  move(job, 'queued', ARGV[11], '_continues', '1', '_woken', woken, '_not_before', '0', '_sends', '0')
  rejoin_line()
  why = 'woken'
end
if job.state == 'running' then
  if job.lease > time then
    look_at(job, job.lease)
    return {'none'}
  end
  -- The store was away, and with it the chance to renew: whoever holds the job gets a moment. It is
  -- looked at here too, for the answer may have been on its way when the store went.
  local watch = redis.call('HMGET', KEYS[#KEYS], 'at', 'silence', 'grace', 'grace_until')
  local grace_until = tonumber(watch[4] or 0)
  if watch[1] and time - tonumber(watch[1]) > tonumber(watch[2]) then
    grace_until = time + tonumber(watch[3])
    redis.call('HSET', KEYS[#KEYS], 'at', int(time), 'grace_until', int(grace_until))
  end
  if time < grace_until then
    look_at(job, grace_until)
    return {'none'}
  end
  if job.cancel_requested then
    return over('canceled', ARGV[9])
  end
  if job.foreign then
    local redelivery_ms = tonumber(redis.call('HGET', JOB, '_redelivery') or 0)
    if redelivery_ms == 0 then
      return over('failed', ARGV[12])
    end
    local give_up = time + redelivery_ms
    move(job, 'retrying', ARGV[10], '_not_before', '0', '_lost', '1', '_give_up', int(give_up))
    look_at(job, give_up)
    return {'none'}
  end
  if attempts_left(job) <= 0 then
    return over('failed', ARGV[7])
  end
  move(job, 'retrying', ARGV[10], '_not_before', '0', '_sends', '0')
  rejoin_line()
  why = 'worker_lost'
end
-- An alarm that went off early is no reason to begin early.
local not_before = tonumber(redis.call('HGET', JOB, '_not_before') or 0)
if not_before > time then
  look_at(job, not_before)
  return {'none'}
end
-- A message may only be waiting its turn: each time we wait twice as long before the next.
local sends = redis.call('HINCRBY', JOB, '_sends', 1)
if not in_line() then
  if job.attempt == '0' then
    join_line()
    why = 'run_at'
  else
    rejoin_line()
    why = 'retry_due'
  end
end
-- Workers would only drop the message. Whoever ends the pause lets the alarm go off.
if is_paused() then
  look_at(job, time + tonumber(ARGV[6]))
  return {'none'}
end
-- It is in the line, and an agent that looks there needs no message (lua/hand_over.lua).
if job.foreign then
  set_alarm(time + tonumber(ARGV[6]))
  return {'none'}
end
local wait = math.min(tonumber(ARGV[5]) * 2 ^ math.min(sends - 1, 20), tonumber(ARGV[6]))
local again = time + wait
look_at(job, again)
local message = redis.call('HMGET', JOB, 'type', '_queue', '_trace')
return {'send', message[1], message[2], sends, why, job.attempt, message[3] or ''}
