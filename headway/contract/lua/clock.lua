-- Time and ids, for scripts that define CLOCK (the key of the clock) before they include this.

local function int(number) return string.format('%.0f', number) end

-- Days to a civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
local dated -- Of the last moment: time stands still within a script.
local function rfc3339(ms)
  if dated and dated[1] == ms then return dated[2] end
  local floor = math.floor
  local s = floor(ms / 1000)
  local days = floor(s / 86400)
  local rest = s - days * 86400
  local z = days + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local day = doy - floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  dated = {ms, string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day,
    floor(rest / 3600), floor(rest % 3600 / 60), rest % 60, ms - s * 1000)}
  return dated[2]
end

-- The machine's time in ms. Leases and alarms run on it.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- An id's n is a count within its ms, led by the number of its lineage: that of the first is 0.
local IDS_PER_MS = @IDS_PER_MS@
local FORKS = 64 -- Of so many lineages it is known how far they came.

local function following(ms, n)
  if (n + 1) % IDS_PER_MS > 0 then return ms, n + 1 end
  return ms + 1, n + 1 - IDS_PER_MS
end

-- The next event id: the time, but never less than or equal to the last one, even when the machine's
-- clock goes back. Returns the id, its ms, its n.
--
-- A server that was restarted or promoted may lack the last writes, and what it hands out must not be an id
-- that another event had there. It gives its writes another name (`master_replid`) than those before had, and
-- so begins a new lineage of ids. How far the old one came is kept: moment.lua tells by it which ids were lost.
local ticked -- ms and n of this script's last one: time stands still within a script.
local function tick()
  local ms, n
  if ticked then
    ms, n = following(ticked[1], ticked[2])
  else
    local held = redis.call('HMGET', CLOCK, 'ms', 'n', 'lineage', 'forks')
    local lineage = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or held[3]
    local last_ms, last_n = tonumber(held[1]), tonumber(held[2])
    ms, n = now(), 0
    if lineage ~= held[3] then redis.call('HSET', CLOCK, 'lineage', lineage) end
    if not last_ms then
      -- It is the first of all.
    elseif held[3] and lineage ~= held[3] then
      local forks = (held[4] or '') .. int(last_ms) .. '-' .. int(last_n) .. ' '
      if select(2, string.gsub(forks, ' ', '')) > FORKS then forks = string.match(forks, ' (.*)$') end
      redis.call('HSET', CLOCK, 'forks', forks)
      ms, n = math.max(ms, last_ms + 1), (tonumber(string.sub(lineage, 1, 5), 16) + 1) * IDS_PER_MS
    elseif ms > last_ms then
      n = last_n - last_n % IDS_PER_MS
    else
      ms, n = following(last_ms, last_n)
    end
  end
  ticked = {ms, n}
  redis.call('HSET', CLOCK, 'ms', int(ms), 'n', int(n))
  return int(ms) .. '-' .. int(n), ms, n
end
