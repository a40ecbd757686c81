-- SPDX-License-Identifier: MIT
--
-- redis.lua REPETITIONS: the Redis store beside hiredis and (when NEAP_LMCACHE_PYTHON names a Python that has it)
-- LMCache's own client, in turn on one server. Prints a line per measurement, then medians, spreads and ratios.

package.path = './?.lua;./?/init.lua;' .. package.path
local redis = require 'spec.support.redis'

local BENCH = assert(os.getenv 'NEAP_BUILD', 'NEAP_BUILD is not set') .. '/bench/redis '
local PYTHON = os.getenv 'NEAP_LMCACHE_PYTHON'
local WORKERS = 8 -- LMCache's default
local repetitions = tonumber(arg[1]) or 5

local loads = {
  { name = '1 MiB', bytes = 1048576, count = 256, batch = 16 },
  { name = '64 KiB', bytes = 65536, count = 4096, batch = 64 },
}

local function commands(server, load)
  local numbers = ('%d %d %d'):format(load.bytes, load.count, load.batch)
  local list = {}
  for _, client in ipairs { 'neap', 'hiredis' } do
    for via, where in pairs { unix = server.path, tcp = server.port } do
      list[#list + 1] = { client = client, via = via, text = ('%s%s %s %s'):format(BENCH, client, where, numbers) }
    end
  end
  if PYTHON then
    list[#list + 1] = { client = 'lmcache', via = 'tcp', text = ('%s tests/bench/redis_lmcache.py %d %s %d 2>/dev/null')
      :format(PYTHON, server.port, numbers, WORKERS) }
  end
  return list
end

local rows, order = {}, {}

local function note(row, client, value)
  if not rows[row] then
    rows[row] = {}
    order[#order + 1] = row
  end
  rows[row][client] = rows[row][client] or {}
  table.insert(rows[row][client], value)
end

local function measure(server, load, command)
  server:cli('FLUSHALL', 'SYNC')
  local pipe = assert(io.popen(command.text))
  local line
  for text in pipe:lines() do
    line = text:match '^{.*}$' or line
  end
  pipe:close()
  assert(line and tonumber(line:match '"wrong": ?(%d+)') == 0, 'failed: ' .. command.text)
  print(('%-7s %-5s %-6s %s'):format(command.client, command.via, load.name, line))
  for _, kind in ipairs { 'store', 'load' } do
    note(('%s %s %s'):format(kind, load.name, command.via), command.client,
      tonumber(line:match('"' .. kind .. '_gb_s": ?([%d.]+)')))
  end
end

local server = redis.start()
for _ = 1, repetitions do
  for _, load in ipairs(loads) do
    for _, command in ipairs(commands(server, load)) do
      measure(server, load, command)
    end
  end
end
server:discard()

local function figures(values)
  if not values then
    return nil, '-'
  end
  table.sort(values)
  local middle = values[math.ceil(#values / 2)]
  return middle, ('%.2f (%.2f-%.2f)'):format(middle, values[1], values[#values])
end

print(('\n%-20s %-18s %-18s %-18s %9s %9s'):format('GB/s, median (range)', 'neap', 'hiredis', 'lmcache', '/hiredis',
  '/lmcache'))
for _, row in ipairs(order) do
  local neap, neap_text = figures(rows[row].neap)
  local hiredis, hiredis_text = figures(rows[row].hiredis)
  local lmcache, lmcache_text = figures(rows[row].lmcache)
  print(('%-20s %-18s %-18s %-18s %9.2f %9s'):format(row, neap_text, hiredis_text, lmcache_text, neap / hiredis,
    lmcache and ('%.2f'):format(neap / lmcache) or '-'))
end
