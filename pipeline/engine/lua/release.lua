-- Give leases back.  KEYS: leases.  ARGV: each lease's token.
for index, lease in ipairs(KEYS) do
  if redis.call('GET', lease) == ARGV[index] then
    redis.call('DEL', lease)
  end
end
