-- Which jobs of an owner's, or of a group, are in a state; for scripts that read feeds.

-- Adds those of the state's index to a list; with a group's index, those that are in both.
local function add_members(list, group, state)
  local found = group and redis.call('ZINTER', 2, group, state) or redis.call('ZRANGE', state, 0, -1)
  for _, id in ipairs(found) do list[#list + 1] = id end
end
