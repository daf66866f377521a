-- What is known of an upload that comes in parts (headway/contract/resumable.py).
--
-- keys: 1 upload, 2 pieces of it, 3 uploading
-- args: 1 action, 2 ms for which it is kept after its last byte, then by action:
--   create:  3 member of uploading, then fields and values of the upload
--   begin:   3 offset, 4 token of the writer, which takes the place of any other
--   advance: 3 offset, 4 token, 5 bytes of all that follow, then names of pieces
--   forget:  3 member of uploading
-- returns: {'ok', offset, ms when it is forgotten}, or {reason} and nothing is changed:
--   gone:   there is no such upload
--   offset: it is at another offset, which is the second value
--   lost:   another writer has taken its place

local UPLOAD, PIECES, UPLOADING = KEYS[1], KEYS[2], KEYS[3]
local action, ttl = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local ends = math.floor(tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000) + ttl

local function keep()
  redis.call('PEXPIRE', UPLOAD, ttl)
  redis.call('PEXPIRE', PIECES, ttl)
  redis.call('ZREMRANGEBYSCORE', UPLOADING, '-inf', ends - ttl)
  redis.call('ZADD', UPLOADING, ends, redis.call('HGET', UPLOAD, 'member'))
  redis.call('PEXPIRE', UPLOADING, ttl)
end

if action == 'forget' then
  redis.call('DEL', UPLOAD, PIECES)
  redis.call('ZREM', UPLOADING, ARGV[3])
  return {'ok', 0, ends}
end

if action == 'create' then
  redis.call('HSET', UPLOAD, 'member', ARGV[3], 'offset', 0, unpack(ARGV, 4))
  keep()
  return {'ok', 0, ends}
end

local held = redis.call('HMGET', UPLOAD, 'offset', 'token')
if not held[1] then return {'gone'} end
local offset = tonumber(held[1])

if action == 'begin' then
  if offset ~= tonumber(ARGV[3]) then return {'offset', offset} end
  redis.call('HSET', UPLOAD, 'token', ARGV[4])
  return {'ok', offset, ends}
else
  if held[2] ~= ARGV[4] then return {'lost'} end
  local after = tonumber(ARGV[3]) + tonumber(ARGV[5])
  -- This very part came before, and the answer to it was lost.
  if offset == after then return {'ok', offset, ends} end
  if offset ~= tonumber(ARGV[3]) then return {'offset', offset} end
  offset = after
  redis.call('HSET', UPLOAD, 'offset', string.format('%.0f', offset))
  for i = 6, #ARGV do redis.call('RPUSH', PIECES, ARGV[i]) end
end
keep()
return {'ok', offset, ends}
