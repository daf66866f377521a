-- The holder reports: progress, logs, artifacts, in one batch.
--
-- keys: prelude
-- args: 5 fence, 6 number of this batch within the claim (a repeat of the last one does nothing: its
--       reply was lost), then for each event: type or '' (only the field changes), body (text of a
--       JSON object), name of the job's field that changes with it or '', the field's value; _read is no
--       field: messages up to that id are read, and never given again
-- returns: {'ok', 1 if cancellation was asked for, else 0} | {'stale'}: another holds it, or it ended
-- events: progress, log, artifact, message, as given

local job = load()
if not job or job.state ~= 'running' or job.fence ~= ARGV[5] then return {'stale'} end
local cancel = job.cancel_requested and 1 or 0
if tonumber(ARGV[6]) <= job.seq then return {'ok', cancel} end
for i = 7, #ARGV, 4 do
  local event, body, field, value = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if field == '_read' then
    redis.call('HSET', JOB, '_seq', ARGV[6])
    redis.call('XTRIM', UNREAD, 'MINID', '=', value)
    redis.call('XDEL', UNREAD, value)
  elseif event == '' then
    redis.call('HSET', JOB, '_seq', ARGV[6], field, value)
  elseif field ~= '' then
    append(job, event, body, '_seq', ARGV[6], field, value)
    if field == 'progress' then recount_progress(value) end
  else
    append(job, event, body, '_seq', ARGV[6])
  end
end
return {'ok', cancel}
