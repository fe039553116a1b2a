-- Become the owner of stages' partitions, of each unless somebody else is.
--
-- KEYS: per partition its lease (string "<token>", expires) and its tokens (string, counts owners up for ever)
-- ARGV: owner, time to live in ms.  Answers for each the new token, or nothing.
local tokens = {}
for at = 1, #KEYS, 2 do
  local lease = redis.call('GET', KEYS[at])
  if lease and string.match(lease, '^%d+ (.*)$') ~= ARGV[1] then
    tokens[#tokens + 1] = false
  else
    local token = redis.call('INCR', KEYS[at + 1]) .. ' ' .. ARGV[1]
    redis.call('SET', KEYS[at], token, 'PX', ARGV[2])
    tokens[#tokens + 1] = token
  end
end
return tokens
