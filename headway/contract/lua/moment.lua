-- Where a clock stands (clock.lua), for scripts that read.

local IDS_PER_MS = @IDS_PER_MS@

-- Returns the last id handed out. For a cursor that was handed out and lost, the last id of its lineage that was
-- not: the cursor is later than that.
local function moment(clock, cursor)
  local held = redis.call('HMGET', clock, 'ms', 'n', 'forks')
  if not held[1] then return '0-0' end
  local last = held[1] .. '-' .. held[2]
  local ms, n = string.match(cursor or '', '^(%d+)-(%d+)$')
  if not n or not held[3] then return last end
  ms, n = tonumber(ms), tonumber(n)
  local function lineage(count) return math.floor(count / IDS_PER_MS) end
  if lineage(n) == lineage(tonumber(held[2])) then return last end
  -- A lineage that is not known was lost whole, or is older than all that are.
  local kept_ms, kept_n
  for fork_ms, fork_n in string.gmatch(held[3], '(%d+)-(%d+) ') do
    fork_ms, fork_n = tonumber(fork_ms), tonumber(fork_n)
    if not kept_ms or lineage(fork_n) == lineage(n) then kept_ms, kept_n = fork_ms, fork_n end
  end
  if ms < kept_ms or (ms == kept_ms and n <= kept_n) then return last end
  return string.format('%.0f-%.0f', kept_ms, kept_n)
end
