-- Keep leases from expiring.  KEYS: leases.  ARGV: time to live in ms, then each lease's token.
-- Answers the indexes (1-based) of those that were lost.
local lost = {}
for index, lease in ipairs(KEYS) do
  if redis.call('GET', lease) == ARGV[index + 1] then
    redis.call('PEXPIRE', lease, ARGV[1])
  else
    lost[#lost + 1] = index
  end
end
return lost
