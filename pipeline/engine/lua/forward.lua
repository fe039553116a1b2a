-- Append what came out of an outbox.  What was appended before is not appended again, and nothing that a forwarder sends
-- whose place another one has taken.
--
-- KEYS[1] forwarded  hash    "<outbox>" -> number of the newest token it was forwarded under, "~calls" -> how many there were
-- KEYS[2..]          pairs of a partition (stream) and what lately came to it from this outbox (sorted set, entry -> call)
-- ARGV: number of the outbox, number of the token, how many entries to remember (more than one call brings);
--       per event: number of the pair, entry of the outbox, key, event type, event
-- Answers how many were new, then for each pair the offset of its last new event, or "".
local newest = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
if tonumber(ARGV[2]) < newest then
  return redis.error_reply('FENCED ' .. newest)
end
-- The first write is one that a full server refuses: once a script has written anything, nothing is refused to it.
local call = redis.call('HINCRBY', KEYS[1], '~calls', 1)
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local new, last = 0, {}
for pair = 1, (#KEYS - 1) / 2 do
  last[pair] = ''
end
for at = 4, #ARGV, 5 do
  local stream = 2 * tonumber(ARGV[at])
  if not redis.call('ZSCORE', KEYS[stream + 1], ARGV[at + 1]) then
    last[stream / 2] = redis.call('XADD', KEYS[stream], '*', 'k', ARGV[at + 2], 't', ARGV[at + 3], 'e', ARGV[at + 4])
    redis.call('ZADD', KEYS[stream + 1], call, ARGV[at + 1])
    new = new + 1
  end
end
for pair = 2, #KEYS, 2 do
  redis.call('ZREMRANGEBYRANK', KEYS[pair + 1], 0, -tonumber(ARGV[3]) - 1)
end
return { new, unpack(last) }
