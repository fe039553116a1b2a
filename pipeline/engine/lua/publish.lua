-- Append events from outside; those whose id was seen lately are repetitions and are dropped.
--
-- KEYS: pairs of a partition (stream) and its lately seen ids (sorted set, id -> order of arrival)
-- ARGV: how many ids to remember; per event: index of the pair (1-based), id or "" (never a repetition), key, event type, event
-- Answers how many were new.
local remembered, new, at = tonumber(ARGV[1]), 0, 2
while at <= #ARGV do
  local stream, seen, id = KEYS[2 * ARGV[at] - 1], KEYS[2 * ARGV[at]], ARGV[at + 1]
  local known = id ~= '' and redis.call('ZSCORE', seen, id)
  if not known then
    local offset = redis.call('XADD', stream, '*', 'k', ARGV[at + 2], 't', ARGV[at + 3], 'e', ARGV[at + 4])
    if id ~= '' then
      redis.call('ZADD', seen, string.match(offset, '%d+'), id)
      redis.call('ZREMRANGEBYRANK', seen, 0, -remembered - 1)
    end
    new = new + 1
  end
  at = at + 5
end
return new
