-- One commit of one stage's partition: all of it, or (FENCED, LOST) nothing.
--
-- KEYS[1] lease    string  "<token>"; expires
-- KEYS[2] state    hash    row -> value
-- KEYS[3] offsets  hash    "<stream>/<p>" -> "<offset>", "<stream>/<p>#" -> records read since the beginning,
--                          "~commits", "~outputs", "~late" -> how many there were
-- KEYS[4] answers  hash    answer key -> JSON
-- KEYS[5..]        the input partitions, then the output partitions (streams); the offsets again for an input that lies in
--                  another slot of a cluster: its group is moved along afterwards
-- ARGV: token, group, number of commits there must have been ("" when that is not known), number of outputs, how many
--       of them go to the stream of late events; number of inputs; per input: field, offset, records passed;
--       twice the number of rows to set; per row: name and value;  number of rows to delete; their names;
--       number of answers; their keys; then per output: index into KEYS, key, event type, event
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED')
end
local function about(stream)
  local info, value = redis.pcall('XINFO', 'STREAM', stream), {}
  for n = 1, #info, 2 do
    value[info[n]] = info[n + 1]
  end
  return value
end
local function trimmed(stream)
  local value = about(stream)
  return (value['entries-added'] or 0) - (value['length'] or 0)
end
-- A stream that vanished, or vanished and began anew, while this stage had read from it.
local function lost(stream, read)
  return (about(stream)['entries-added'] or 0) < tonumber(read)
end
local counted = redis.call('HMGET', KEYS[3], '~commits', '~outputs', '~late')
local commits = tonumber(counted[1] or 0)
if ARGV[3] ~= '' and commits ~= tonumber(ARGV[3]) then
  if commits > tonumber(ARGV[3]) then
    return redis.error_reply('FENCED')
  end
  -- This server took a beginning of the commits only.  What comes on top of the others must not be put on top of these.
  return redis.error_reply('LOST the server knows ' .. commits .. ' commits, but had taken ' .. ARGV[3])
end
-- The first write is one that a full server refuses: once a script has written anything, nothing is refused to it.
redis.call('HSET', KEYS[3], '~commits', commits + 1)
local group, at, moves = ARGV[2], 7, {}
if ARGV[4] ~= '0' then
  moves = { '~outputs', (counted[2] or 0) + ARGV[4], '~late', (counted[3] or 0) + ARGV[5] }
end
for input = 1, tonumber(ARGV[6]) do
  local field, offset, passed = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local before = redis.call('HGET', KEYS[3], field .. '#')
  local here = KEYS[4 + input] ~= KEYS[3]
  -- What was gone before this stage came counts as read, or it would lag for ever.
  local read = before and before + passed or passed + (here and trimmed(KEYS[4 + input]) or 0)
  -- A true position of a consumer group lets every Redis tool show this stage's lag.
  local moved = here and redis.pcall('XGROUP', 'SETID', KEYS[4 + input], group, offset, 'ENTRIESREAD', read)
  if type(moved) == 'table' and moved.err then
    if before and lost(KEYS[4 + input], before) then
      redis.call('HSET', KEYS[3], '~commits', commits)
      return redis.error_reply('LOST the server does not have all of the ' .. before .. ' events read of ' .. field)
    end
    redis.pcall('XGROUP', 'CREATE', KEYS[4 + input], group, offset, 'MKSTREAM', 'ENTRIESREAD', read)
  end
  for _, part in ipairs({ field, offset, field .. '#', read }) do
    moves[#moves + 1] = part
  end
  at = at + 3
end
if #moves > 0 then
  redis.call('HSET', KEYS[3], unpack(moves))
end
-- One call for many rows: unpack() takes a few thousand at most, and an even number keeps names with their values.
local function in_slices(command, key)
  local last = at + tonumber(ARGV[at])
  at = at + 1
  while at <= last do
    local through = math.min(at + 999, last)
    redis.call(command, key, unpack(ARGV, at, through))
    at = through + 1
  end
end
in_slices('HSET', KEYS[2])
in_slices('HDEL', KEYS[2])
in_slices('HDEL', KEYS[4])
while at <= #ARGV do
  redis.call('XADD', KEYS[tonumber(ARGV[at])], '*', 'k', ARGV[at + 1], 't', ARGV[at + 2], 'e', ARGV[at + 3])
  at = at + 4
end
return 1
