-- SPDX-License-Identifier: MIT
--
-- bench.lua REPETITIONS [ROW...]: neap, LMCache's server (when NEAP_PEER names its program) and the null server, one
-- after the other and again, measured with the same client in one run. Prints a JSON line per measurement, then a table
-- of medians, spreads and ratios. Absolute numbers do not carry over to another machine, the ratios do.

package.path = './?.lua;./?/init.lua;' .. package.path
local server = require 'spec.support.server'

local BENCH = assert(os.getenv 'NEAP_BUILD', 'NEAP_BUILD is not set') .. '/bench/'
local programs = {
  { name = 'neap', path = os.getenv 'NEAP_BIN' },
  { name = 'lmcache', path = os.getenv 'NEAP_PEER' },
  { name = 'floor', path = BENCH .. 'null_server' },
}
local MIB = 1048576

-- Runs a program and returns the numbers of the flat JSON object it prints.
local function measure(command)
  local pipe = assert(io.popen(command))
  local line = pipe:read '*l'
  pipe:close()
  if not line then error('nothing came from: ' .. command, 0) end
  local numbers = {}
  for name, value in line:gmatch '"([%w_]+)":(-?[%d.]+)' do numbers[name] = tonumber(value) end
  if (numbers.wrong or 0) > 0 then error(('%d wrong answers: %s'):format(numbers.wrong, command), 0) end
  return numbers
end

local function load(running, kind, flags)
  local verify = running.program == 'floor' and ' --verify 0' or ''
  return measure(('%sload %s --endpoint %s --pid %d%s %s'):format(
    BENCH, kind, running.endpoint, running.pid, verify, flags))
end

-- Resident bytes of a process without the pool itself: heap, tables, metadata segment.
local function resident(running)
  local bytes, counts = 0, false
  for line in io.lines(('/proc/%d/smaps'):format(running.pid)) do
    if line:match '^%x+%-%x+ ' then counts = not line:match('_' .. running.shm:gsub('%p', '%%%0') .. '$') end
    local kb = counts and line:match '^Rss:%s+(%d+) kB'
    if kb then bytes = bytes + kb * 1024 end
  end
  return bytes
end

---@class Group what is measured on one fresh server
---@field l1_size_gb number
---@field flags? string[]
---@field fs? boolean with an fs store, whose directory outlives the group's servers
---@field run fun(running: Server, put: fun(row: string, value: number), context: table)

local function per_second(row, kind, flags)
  return { row = row, run = function(running) return load(running, kind, flags).per_s end }
end

local function of(field, row, kind, flags)
  return { row = row, run = function(running) return load(running, kind, flags)[field] end }
end

local SMALL = '--chunks 4 --chunk-bytes 65536 --populate 1 '
local EIGHT = SMALL .. '--clients 8 --depth 8 '
local LONG = '--chunks 64 --chunk-bytes 4096 --populate 1 --prompts 50 '
local LARGE = ('--chunks 16 --chunk-bytes %d --populate 1 '):format(MIB)

-- Rows whose better is smaller; the others are rates.
local smaller = {}
local groups = {
  control = { l1_size_gb = 1, rows = {
    per_second('ping 8x8 /s', 'ping', EIGHT),
    per_second('lookup 4 hits 8x8 /s', 'hit', EIGHT .. '--prompts 1000'),
    per_second('lookup 64 hits 8x8 /s', 'hit', LONG .. '--clients 8 --depth 8'),
    per_second('lookup 64 misses 8x8 /s', 'miss', LONG .. '--clients 8 --depth 8'),
    per_second('store 4x64K 8x8 /s', 'store', EIGHT),
    per_second('retrieve 4x64K 8x8 /s', 'retrieve', EIGHT .. '--prompts 1000'),
    of('p50_us', 'ping p50 us', 'ping', SMALL),
    of('p50_us', 'lookup 4 hits p50 us', 'hit', SMALL .. '--prompts 1000'),
    of('p50_us', 'store 4x64K p50 us', 'store', SMALL),
    of('p50_us', 'retrieve 4x64K p50 us', 'retrieve', SMALL .. '--prompts 1000'),
    of('server_cpu_ms_per_1000', 'CPU ms per 1000 lookups', 'hit', EIGHT .. '--prompts 1000'),
  } },
  data = { l1_size_gb = 1, rows = {
    of('gb_s', 'store 16x1M 1 client GB/s', 'store', LARGE),
    of('gb_s', 'retrieve 16x1M 1 client GB/s', 'retrieve', LARGE .. '--prompts 30'),
    of('gb_s', 'store 16x1M 4 clients GB/s', 'store', LARGE .. '--clients 4'),
    of('gb_s', 'retrieve 16x1M 4 clients GB/s', 'retrieve', LARGE .. '--clients 4 --prompts 30'),
  } },
  start = { l1_size_gb = 5, first = function(running)
    return { ['start to first answer ms'] = measure(('%sload ready --endpoint %s --since-ns %s'):format(
      BENCH, running.endpoint, running.started_ns)).ms }
  end, run = function(running)
    local fresh = load(running, 'store', ('--count 110 --chunks 16 --chunk-bytes %d'):format(MIB))
    local before, chunks = resident(running), 32768
    load(running, 'store', ('--count %d --first 1000 --chunks 64 --chunk-bytes 4096'):format(chunks / 64))
    return {
      ['first : hundredth store'] = fresh.first_us / fresh.hundredth_us,
      ['metadata bytes per chunk'] = (resident(running) - before) / chunks,
    }
  end },
  pressure = { l1_size_gb = 0.25, run = function(running)
    local busy = load(running, 'mixed',
                      '--chunks 16 --chunk-bytes 65536 --prompts 768 --clients 4 --warmup-ms 3000 --ms 4000')
    return {
      ['3 x L1 longest request ms'] = busy.max_us / 1000,
      ['3 x L1 requests over 10 ms'] = busy.over_10ms,
      ['3 x L1 prefix hit ratio'] = busy.hit_ratio,
    }
  end },
}
for _, row in ipairs {
  'ping p50 us', 'lookup 4 hits p50 us', 'store 4x64K p50 us', 'retrieve 4x64K p50 us', 'CPU ms per 1000 lookups',
  'start to first answer ms', 'first : hundredth store', 'metadata bytes per chunk', '3 x L1 longest request ms',
  '3 x L1 requests over 10 ms',
} do smaller[row] = true end

local measured, order = {}, {} -- measured[row][program] = values

local function put(repetition, program, row, value)
  if not measured[row] then
    measured[row] = {}
    order[#order + 1] = row
  end
  measured[row][program] = measured[row][program] or {}
  table.insert(measured[row][program], value)
  print(('{"row":"%s","server":"%s","repetition":%d,"value":%.4f}'):format(row, program, repetition, value))
  io.flush()
end

local function put_all(repetition, program, values)
  for row, value in pairs(values) do put(repetition, program, row, value) end
end

local function start(program, directory, options)
  server.bin, options.directory = program.path, directory
  options.env = { LMCACHE_TRACK_USAGE = 'false', DO_NOT_TRACK = '1', LMCACHE_DISABLE_BANNER = '1' }
  local pipe = io.popen 'date +%s%N'
  local started_ns = pipe:read '*l'
  pipe:close()
  local running = server.launch(options)
  running.program, running.started_ns = program.name, started_ns
  return running
end

local function run_group(group, repetition, program)
  local directory = server.directory()
  local running = start(program, directory, { l1_size_gb = group.l1_size_gb })
  local ok, message = pcall(function()
    if group.first then put_all(repetition, program.name, group.first(running)) end
    running:await()
    for _, row in ipairs(group.rows or {}) do put(repetition, program.name, row.row, row.run(running)) end
    if group.run then put_all(repetition, program.name, group.run(running)) end
  end)
  running:stop()
  server.remove(directory)
  if not ok then error(message, 0) end
end

-- The second level: a burst of twice the first level, then cold loads by fresh servers over the same files.
local CHUNKS, PROMPTS = 4, 512
local L2 = ('--count %d --first 0 --chunks %d --chunk-bytes %d '):format(PROMPTS, CHUNKS, MIB)

-- Returns GB/s of what reached the disk, and its share of what was sent; it is over when no file has come for 1.5 s.
local function burst(program, directory, adapter)
  local running = start(program, directory, { l1_size_gb = 1, l2 = { adapter } })
  running:await()
  local began = server.now()
  load(running, 'insist', L2 .. '--clients 4')
  local count, changed = 0, server.now()
  while server.now() < changed + 1.5 do
    local now = #server.files(directory .. '/l2', '.data')
    if now ~= count then count, changed = now, server.now() end
    server.pause(20)
  end
  running:stop()
  return count * MIB / (changed - began) / 1e9, count / (CHUNKS * PROMPTS)
end

local function loads(program, directory, adapter, clients)
  local running = start(program, directory, { l1_size_gb = 4, l2 = { adapter } })
  running:await()
  local result = load(running, 'retrieve', L2 .. '--clients ' .. clients)
  running:stop()
  return result.gb_s
end

local function forget(directory) measure(('%sdisk forget %s/l2'):format(BENCH, directory)) end

local function run_disk(repetition, program)
  local directory = server.directory()
  local adapter = ('{"type":"fs","base_path":"%s/l2","use_odirect":true}'):format(directory)
  local ok, message = pcall(function()
    if program.name == 'floor' then
      os.execute(("mkdir '%s/l2'"):format(directory))
      put(repetition, 'floor', 'fs burst 2 x L1 GB/s',
          measure(('%sdisk write %s/l2 %d %d'):format(BENCH, directory, CHUNKS * PROMPTS, MIB)).gb_s)
      for _, clients in ipairs { 1, 4 } do
        forget(directory)
        put(repetition, 'floor', ('fs cold load %d clients GB/s'):format(clients),
            measure(('%sdisk read %s/l2'):format(BENCH, directory)).gb_s)
      end
      return
    end
    local rate, share = burst(program, directory, adapter)
    put(repetition, program.name, 'fs burst 2 x L1 GB/s', rate)
    put(repetition, program.name, 'fs burst share stored', share)
    for _, clients in ipairs { 1, 4 } do
      forget(directory)
      put(repetition, program.name, ('fs cold load %d clients GB/s'):format(clients),
          loads(program, directory, adapter, clients))
    end
  end)
  server.remove(directory)
  if not ok then error(message, 0) end
end

local function median(values)
  local sorted = {}
  for i, value in ipairs(values) do sorted[i] = value end
  table.sort(sorted)
  return sorted[math.floor((#sorted + 1) / 2)], sorted[1], sorted[#sorted]
end

local function ratio(row, other)
  local mine, theirs = measured[row].neap, measured[row][other]
  if not mine or not theirs then return '' end
  local a, b = median(mine), median(theirs)
  if b == 0 then return '' end
  return ('%.2f'):format(a / b)
end

local function table_of_results()
  local layout = '%-29s %28s %28s %28s %9s %10s%s'
  print('\n' .. layout:format('row, median (least .. most)', 'neap', 'LMCache', 'floor', 'neap:peer', 'neap:floor', ''))
  for _, row in ipairs(order) do
    local cells = {}
    for i, program in ipairs(programs) do
      local values = measured[row][program.name]
      cells[i] = values and ('%.4g (%.4g .. %.4g)'):format(median(values)) or ''
    end
    print(layout:format(row, cells[1], cells[2], cells[3], ratio(row, 'lmcache'), ratio(row, 'floor'),
                        smaller[row] and '  smaller is better' or ''))
  end
end

local names = { 'control', 'data', 'start', 'pressure', 'disk' }
local wanted = {}
for i = 2, #arg do wanted[arg[i]] = true end
local repetitions = tonumber(arg[1]) or 3
for repetition = 1, repetitions do
  for _, name in ipairs(names) do
    for _, program in ipairs(programs) do
      if program.path and (not next(wanted) or wanted[name]) then
        local ok, message = pcall(function()
          if name == 'disk' then return run_disk(repetition, program) end
          run_group(groups[name], repetition, program)
        end)
        if not ok then io.stderr:write(('%s, %s: %s\n'):format(name, program.name, tostring(message))) end
      end
    end
  end
end
table_of_results()
