-- One commit of one stage's partition: all of it, or (FENCED) nothing.
--
-- KEYS[1] lease    string  "<token>"; expires
-- KEYS[2] state    hash    row -> value
-- KEYS[3] offsets  hash    "<stream>/<p>" -> "<offset>", "<stream>/<p>#" -> records read since the beginning
-- KEYS[4] answers  hash    answer key -> JSON
-- KEYS[5..]        the input partitions, then the output partitions (streams)
-- ARGV: token, group, number of inputs; per input: field, offset, records passed;
--       number of rows; per row: name, "1" and value, or "0" and "" to delete;
--       number of answers; their keys; then per output: index into KEYS, key, event type, event
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED')
end
local function trimmed(stream)
  local info, value = redis.pcall('XINFO', 'STREAM', stream), {}
  for n = 1, #info, 2 do
    value[info[n]] = info[n + 1]
  end
  return (value['entries-added'] or 0) - (value['length'] or 0)
end
local group, at = ARGV[2], 4
for input = 1, tonumber(ARGV[3]) do
  local field, offset, passed = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  if redis.call('HEXISTS', KEYS[3], field) == 0 then
    -- What was gone before this stage came counts as read, or it would lag for ever.
    passed = passed + trimmed(KEYS[4 + input])
  end
  local read = redis.call('HINCRBY', KEYS[3], field .. '#', passed)
  redis.call('HSET', KEYS[3], field, offset)
  -- A true position of a consumer group lets every Redis tool show this stage's lag.
  local moved = redis.pcall('XGROUP', 'SETID', KEYS[4 + input], group, offset, 'ENTRIESREAD', read)
  if type(moved) == 'table' and moved.err then
    redis.pcall('XGROUP', 'CREATE', KEYS[4 + input], group, offset, 'MKSTREAM', 'ENTRIESREAD', read)
  end
  at = at + 3
end
local rows = tonumber(ARGV[at])
at = at + 1
for _ = 1, rows do
  if ARGV[at + 1] == '1' then
    redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 2])
  else
    redis.call('HDEL', KEYS[2], ARGV[at])
  end
  at = at + 3
end
local answers = tonumber(ARGV[at])
at = at + 1
for _ = 1, answers do
  redis.call('HDEL', KEYS[4], ARGV[at])
  at = at + 1
end
while at <= #ARGV do
  redis.call('XADD', KEYS[tonumber(ARGV[at])], '*', 'k', ARGV[at + 1], 't', ARGV[at + 2], 'e', ARGV[at + 3])
  at = at + 4
end
return 1
