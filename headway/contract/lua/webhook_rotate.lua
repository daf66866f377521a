-- Replaces a webhook's secrets, unless somebody else has meanwhile.
--
-- keys: 1 the webhook
-- args: 1 what they are thought to be, 2 what they shall be
-- returns: {'changed'} | {'other'}

if redis.call('HGET', KEYS[1], 'secrets') ~= ARGV[1] then return {'other'} end
redis.call('HSET', KEYS[1], 'secrets', ARGV[2])
return {'changed'}
