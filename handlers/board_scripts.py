"""The scripts that leaderboards in Redis are read and changed by; each touches one board, hence one slot.

    lb:{<period>:<since>}:rank      sorted set: agent -> -points, so that equal points are ordered by id
    lb:{<period>:<since>}:rows      hash: agent -> ticket base_ticket|recent|base|=name, and about the board:
        .floor   the ticket of the build that made it: what is older is in it already
        .last    the last ticket that was given out
        .run     the life of the Redis server that it was built on: a failover or a restart loses writes
        .fence   the fencing token of the build that made it
    ...:rank:new, ...:rows:new      the same while it is being built; `.build` is the builder's fencing token

`recent` and `base` are "points completed failed agreed". A board is complete if `rows` has a `.floor`, its
run is that of the server, and both keys hold the same number of agents: either may be evicted alone.
"""

from __future__ import annotations

from typing import Final

META: Final = 4
"""Fields of `rows` that are about a complete board."""

_RUN: Final = """
local function run()
  local about = redis.call('INFO', 'server', 'replication')
  return string.match(about, 'run_id:(%x+)') .. string.match(about, 'master_replid:(%x+)')
end
"""
_NOW: Final = """
local function later(...)
  local now = redis.call('TIME')
  local ticket = now[1] * 1000000 + now[2]
  for _, last in ipairs({...}) do ticket = math.max(ticket, tonumber(last or '0') + 1) end
  return string.format('%.0f', ticket)
end
"""
# Each of the two sums of an agent takes the value with the greatest ticket. `recent` is empty if there is
# none; `base` is empty if it was not read, and '-' if there is none. Returns 0 if nothing was taken, else 1.
_PUT: Final = """
local function put(rank, rows, ticket, based, id, recent, base, name)
  local held = redis.call('HGET', rows, id)
  local base_ticket, old_base, number = '0', '0 0 0 0', tonumber(ticket)
  if recent == '' and based and base ~= '-' and (held or base ~= '') then recent = '0 0 0 0' end
  if held then
    local t, bt, r, b, n = string.match(held, '^(%d+) (%d+)|([^|]*)|([^|]*)|(.*)$')
    base_ticket, old_base = bt, b
    if number < tonumber(t) then
      if base == '' or number <= tonumber(bt) then return 0 end
      ticket, recent, name = t, r, n
      if base == '-' then base = '0 0 0 0' end
    end
  end
  if recent == '' then
    redis.call('ZREM', rank, id)
    redis.call('HDEL', rows, id)
    return 1
  end
  if base ~= '' and number >= tonumber(base_ticket) then
    base_ticket, old_base = string.format('%.0f', number), base == '-' and '0 0 0 0' or base
  end
  local points = tonumber(string.match(recent, '^%-?%d+')) + tonumber(string.match(old_base, '^%-?%d+'))
  redis.call('ZADD', rank, -points, id)
  redis.call('HSET', rows, id,
    ticket .. ' ' .. base_ticket .. '|' .. recent .. '|' .. old_base .. '|' .. name)
  return 1
end
"""

# Where there is neither a board nor one being built, nobody needs the ticket.
TICKET: Final = (
    _NOW
    + """
local live, new = redis.call('HGET', KEYS[2], '.last'), redis.call('HGET', KEYS[4], '.last')
if not live and not new then return false end
local ticket = later(live, new)
if live then redis.call('HSET', KEYS[2], '.last', ticket) end
if new then redis.call('HSET', KEYS[4], '.last', ticket) end
return ticket
"""
)

# ARGV: ticket, based, the instant in milliseconds at which nobody asks for it any more, then id recent base
# name of each agent. What is not newer than a build is in it. The ranks of a board that was empty are made
# here, and have no expiry yet. Returns how many values were written and how many were refused.
APPLY: Final = (
    _PUT
    + """
local number, written, refused = tonumber(ARGV[1]), 0, 0
for at = 1, 3, 2 do
  local floor = redis.call('HGET', KEYS[at + 1], '.floor')
  if floor then
    local newer = number > tonumber(floor)
    for i = 4, #ARGV, 4 do
      local taken = newer and put(KEYS[at], KEYS[at + 1], ARGV[1], ARGV[2] == '1',
        ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) or 0
      written, refused = written + taken, refused + 1 - taken
    end
    redis.call('PEXPIREAT', KEYS[at], ARGV[3])
  end
end
return {written, refused}
"""
)

# ARGV: fence, milliseconds. Refused if a later holder of the lock has begun or finished.
BEGIN: Final = (
    _NOW
    + _RUN
    + """
local live = redis.call('HMGET', KEYS[2], '.last', '.fence')
local new = redis.call('HMGET', KEYS[4], '.last', '.build')
for _, fence in ipairs({live[2] or '0', new[2] or '0'}) do
  if tonumber(fence) > tonumber(ARGV[1]) then return false end
end
redis.call('UNLINK', KEYS[3], KEYS[4])
local ticket = later(live[1], new[1])
redis.call('HSET', KEYS[4], '.build', ARGV[1], '.floor', ticket, '.last', ticket, '.run', run())
redis.call('PEXPIRE', KEYS[4], ARGV[2])
return ticket
"""
)

# ARGV: fence, milliseconds, ticket, based, then id recent base name of each agent.
ADD: Final = (
    _PUT
    + """
if redis.call('HGET', KEYS[4], '.build') ~= ARGV[1] then return 0 end
for i = 5, #ARGV, 4 do
  put(KEYS[3], KEYS[4], ARGV[3], ARGV[4] == '1', ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
end
redis.call('PEXPIRE', KEYS[3], ARGV[2])
redis.call('PEXPIRE', KEYS[4], ARGV[2])
return 1
"""
)

# ARGV: fence, the instant in milliseconds at which nobody asks for it any more.
FINISH: Final = """
if redis.call('HGET', KEYS[4], '.build') ~= ARGV[1] then return -1 end
redis.call('HSET', KEYS[4], '.fence', ARGV[1])
redis.call('HDEL', KEYS[4], '.build')
redis.call('UNLINK', KEYS[1], KEYS[2])
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('RENAME', KEYS[3], KEYS[1]) end
redis.call('RENAME', KEYS[4], KEYS[2])
redis.call('PEXPIREAT', KEYS[1], ARGV[2])
redis.call('PEXPIREAT', KEYS[2], ARGV[2])
return redis.call('ZCARD', KEYS[1])
"""

# ARGV: how many from the top; or an agent, and how many around it. HDEL changes nothing: it is refused where
# no writes are taken, by a master that was demoted, say, which hears of no updates either.
READ: Final = (
    _RUN
    + f"""
redis.call('HDEL', KEYS[2], '.')
local about = redis.call('HMGET', KEYS[2], '.floor', '.run')
local size = redis.call('ZCARD', KEYS[1])
if not about[1] or about[2] ~= run() or redis.call('HLEN', KEYS[2]) - {META} ~= size then return false end
local first, last = 0, tonumber(ARGV[1]) - 1
if ARGV[2] then
  local at = redis.call('ZRANK', KEYS[1], ARGV[2])
  if not at then return {{size, 0, 0}} end
  first, last = math.max(0, at - tonumber(ARGV[1])), at + tonumber(ARGV[1])
end
local ids = redis.call('ZRANGE', KEYS[1], first, last)
if #ids == 0 then return {{size, 0, 0}} end
local better = 0
if first > 0 then
  better = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. redis.call('ZSCORE', KEYS[1], ids[1]))
end
return {{size, first, better + 1, ids, redis.call('HMGET', KEYS[2], unpack(ids))}}
"""
)
