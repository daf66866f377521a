-- Writing what a holder reports, for scripts that begin with the prelude.

-- Writes the batch that ARGV holds from `at` on, unless it was written before (its reply was lost): its number
-- within the claim, then for each event: type or '' (only the field changes), body (text of a JSON object), name
-- of the job's field that changes with it or '', the field's value; _read is no field: messages up to that id are
-- read, and never given again.
local function write_reports(job, at)
  local batch = ARGV[at]
  if not batch or tonumber(batch) <= job.seq then return end
  for i = at + 1, #ARGV, 4 do
    local event, body, field, value = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    if field == '_read' then
      redis.call('HSET', JOB, '_seq', batch)
      redis.call('XTRIM', UNREAD, 'MINID', '=', value)
      redis.call('XDEL', UNREAD, value)
    elseif event == '' then
      redis.call('HSET', JOB, '_seq', batch, field, value)
    elseif field ~= '' then
      append(job, event, body, '_seq', batch, field, value)
      if field == 'progress' then recount_progress(value) end
    else
      append(job, event, body, '_seq', batch)
    end
  end
end
