-- Append events from outside; those whose id was seen lately are repetitions and are dropped.
--
-- KEYS: triples of a partition (stream) and its lately seen ids, 1 derived and 2 random (sorted sets, id -> time)
-- ARGV: how many ids of each kind to remember;
--       per event: number of the triple (1-based), kind of id (1 or 2), id, key, event type, event
-- Answers how many were new, then for each triple the offset of its last new event, or "".
local remembered, new, last, at = tonumber(ARGV[1]), 0, {}, 2
for triple = 1, #KEYS / 3 do
  last[triple] = ''
end
while at <= #ARGV do
  local triple, kind, id = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]
  local seen = KEYS[3 * triple - 2 + kind]
  if not redis.call('ZSCORE', seen, id) then
    local offset = redis.call('XADD', KEYS[3 * triple - 2], '*', 'k', ARGV[at + 3], 't', ARGV[at + 4], 'e', ARGV[at + 5])
    redis.call('ZADD', seen, string.match(offset, '%d+'), id)
    redis.call('ZREMRANGEBYRANK', seen, 0, -remembered - 1)
    last[triple] = offset
    new = new + 1
  end
  at = at + 6
end
return { new, unpack(last) }
