-- A worker takes a job: attempt + 1, a new fence, a lease. A job that has waited goes on with its attempt.
--
-- keys: prelude
-- args: 5 token of this claim (a repeat with the same token is the same claim: its reply was lost),
--       6 lease in ms, 7 the worker as a JSON string
-- returns: what claiming.lua's claim does
-- events: state (running)

--@include claiming.lua

return claim(ARGV[5], tonumber(ARGV[6]), ARGV[7])
