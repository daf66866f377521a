-- Reading a stream, for scripts that return what comes after an id.

local STEP = 100 -- Entries read at once: they may be large.

-- Returns up to `most` entries after an id, fewer if their data have `bytes` together, but at least one; and '1'
-- if there may be more, else ''. `complete`, if given, may first change the fields of each: the 6th is its data.
local function entries_after(stream, id, most, bytes, complete)
  local found = {}
  while #found < most do
    local step = math.min(STEP, most - #found)
    local entries = redis.call('XRANGE', stream, '(' .. id, '+', 'COUNT', step)
    for _, entry in ipairs(entries) do
      if complete then complete(entry[2]) end
      found[#found + 1], id = entry, entry[1]
      bytes = bytes - #entry[2][6]
      if bytes <= 0 then return found, '1' end
    end
    if #entries < step then return found, '' end
  end
  return found, '1'
end
