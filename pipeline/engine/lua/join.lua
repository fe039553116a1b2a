-- Say that a worker is alive, by the server's clock, and what it takes; answer who is, and what each takes.
--
-- KEYS[1] alive  sorted set, worker -> alive until (ms);  KEYS[2] takes  hash, worker -> what it takes
-- KEYS[3] changes  stream: its newest entry is newer than the last change of the list
-- ARGV: worker, time to live in ms, what it takes.  Answers pairs of worker and what it takes.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%d', now + ARGV[2]), ARGV[1])
local changed = redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[3]
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now))) do
  redis.call('ZREM', KEYS[1], gone)
  redis.call('HDEL', KEYS[2], gone)
  changed = true
end
if changed then
  redis.call('XADD', KEYS[3], 'MAXLEN', 1, '*', 'k', ARGV[1], 't', 'members.changed', 'e', '')
end
return redis.call('HGETALL', KEYS[2])
