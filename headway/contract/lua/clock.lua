-- Time and ids, for scripts that define CLOCK (the key of the clock) before they include this.

local function int(number) return string.format('%.0f', number) end

-- Days to a civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
local function rfc3339(ms)
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
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day,
    floor(rest / 3600), floor(rest % 3600 / 60), rest % 60, ms - s * 1000)
end

-- The machine's time in ms. Leases and alarms run on it.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The next event id: the time, but never less than or equal to the last one, even when the machine's
-- clock goes back. Returns the id, its ms, its n.
local ticked -- ms and n of this script's last one: time stands still within a script.
local function tick()
  local ms, n
  if ticked then
    ms, n = ticked[1], ticked[2] + 1
  else
    ms, n = now(), 0
    local last = redis.call('HMGET', CLOCK, 'ms', 'n')
    if last[1] and ms <= tonumber(last[1]) then
      ms, n = tonumber(last[1]), tonumber(last[2]) + 1
    end
  end
  ticked = {ms, n}
  redis.call('HSET', CLOCK, 'ms', int(ms), 'n', int(n))
  return int(ms) .. '-' .. int(n), ms, n
end
