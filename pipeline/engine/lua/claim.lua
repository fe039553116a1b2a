-- Become the owner of a stage's partition, unless somebody else is.
--
-- KEYS[1] lease  string "<token>", expires;  KEYS[2] tokens  string, counts owners up for ever
-- ARGV: owner, time to live in ms.  Answers the new token, or nothing.
local lease = redis.call('GET', KEYS[1])
if lease and string.match(lease, '^%d+ (.*)$') ~= ARGV[1] then
  return false
end
local token = redis.call('INCR', KEYS[2]) .. ' ' .. ARGV[1]
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return token
