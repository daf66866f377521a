-- Finds the job that is next in the line of a queue (line.lua), among those of some types.
--
-- keys: 1 the owners in the line, 2 what is paused
-- args: 1 what comes before the id in the keys of the partition's jobs, 2 the queue; 3… the types, as JSON
--       texts; without any, all
-- returns: {} | {id, owner (JSON), group (JSON), idempotency key, type (JSON), parent (JSON)}
-- events: none

--@include search.lua

return (next_in(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV, 3)) or {}
