-- Keep an answer of the world.  KEYS: lease, answers (hash).  ARGV: token, answer key, JSON.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED')
end
-- Law 4: the first answer stays.
redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3])
return 1
