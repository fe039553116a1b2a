-- Say that a worker is gone.  KEYS as in join.lua.  ARGV[1] worker.
redis.call('ZREM', KEYS[1], ARGV[1])
if redis.call('HDEL', KEYS[2], ARGV[1]) == 1 then
  redis.call('XADD', KEYS[3], 'MAXLEN', 1, '*', 'k', ARGV[1], 't', 'members.changed', 'e', '')
end
