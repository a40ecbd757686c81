-- SPDX-License-Identifier: MIT
--
-- reload.lua [ROUNDS]: what a request notices of a reload. One client stores and finds prompts through a Lua adapter
-- without a pause, in turns left alone and with a reload every 100 ms, a new version of the code each time. Prints a
-- JSON line per turn, then the medians over the turns. Requests that fail, or bring back a wrong byte, end it with 1.

package.path = './?.lua;./?/init.lua;' .. package.path
local server = require 'spec.support.server'
local workload = require 'spec.support.workload'

local ROUNDS = tonumber(arg[1]) or 7
local TURN_S, EVERY_S, CHUNKS, PROMPTS = 3, 0.1, 3, 500
local TOKENS = CHUNKS * workload.CHUNK

local directory = server.directory()
assert(os.execute(("mkdir '%s/plugins' '%s/store'"):format(directory, directory)) == 0)
local module_text = server.read 'spec/support/files_adapter.lua'

local version = 0
local function write_module()
  version = version + 1
  local path = directory .. '/plugins/files.lua'
  local file = assert(io.open(path .. '~', 'w'))
  file:write((module_text:gsub('VERSION = 0', 'VERSION = ' .. version)))
  file:close()
  assert(os.rename(path .. '~', path))
end

write_module()
local running = server.start {
  directory = directory, l2 = { ('{"type":"files","dir":"%s/store"}'):format(directory) },
  flags = { '--plugin-path', directory .. '/plugins', '--log-level', 'warning' },
}
local work = workload.new(running, { hidden = 16 }) -- small, so that L2 keeps up

-- Reloads until it is killed, in a process of its own; each result is a line.
local function reloader(log)
  local command = ([[while :; do n=$((n+1)); sed "s/VERSION = [0-9]*/VERSION = $n/" '%s/plugins/files.lua' >'%s/new'
    mv '%s/new' '%s/plugins/files.lua'
    curl -s -o /dev/null -w '%%{http_code} %%{time_total}\n' -X POST http://127.0.0.1:%d/adapters/files/reload
    sleep %g; done]]):format(directory, directory, directory, directory, running.http_port, EVERY_S)
  return server.spawn({ '/bin/sh', '-c', command }, log)
end

local round, failed, first_failure = 0, 0, nil

local function once(times, action, prompt)
  local started = server.now()
  local ok, result = pcall(action, prompt)
  times[#times + 1] = (server.now() - started) * 1000
  if ok then return end
  failed = failed + 1
  first_failure = first_failure or result
end

local function store(prompt) work:store(prompt, TOKENS) end

local function find(prompt)
  local chunks = work:hit_and_verify(prompt, TOKENS)
  if chunks ~= CHUNKS then error(('prompt %d: %d of %d chunks'):format(prompt, chunks, CHUNKS), 0) end
end

local function percentile(times, p) return times[math.max(1, math.ceil(#times * p))] end

local function turn(with_reloads)
  local log, times, reloads, pid = directory .. '/reloads', {}, 0, nil
  os.remove(log)
  if with_reloads then pid = reloader(log) end
  local until_s = server.now() + TURN_S
  while server.now() < until_s do
    local prompt = round % PROMPTS
    once(times, store, prompt)
    work.scheduler:clear(false)
    once(times, find, prompt)
    round = round + 1
  end
  if pid then
    os.execute('kill ' .. pid)
    for line in io.lines(log) do
      assert(line:match '^200 ', 'a reload was refused: ' .. line)
      reloads = reloads + 1
    end
  end
  table.sort(times)
  local result = { requests = #times, reloads = reloads, p50 = percentile(times, 0.5), p99 = percentile(times, 0.99),
                   p100 = times[#times] }
  print(('{"reloads":%d,"requests":%d,"failed":%d,"p50_ms":%.3f,"p99_ms":%.3f,"p100_ms":%.3f}'):format(
    reloads, result.requests, failed, result.p50, result.p99, result.p100))
  return result
end

local function median(turns, field)
  local values = {}
  for i, t in ipairs(turns) do values[i] = t[field] end
  table.sort(values)
  return values[math.ceil(#values / 2)]
end

turn(false) -- warms up
local alone, reloading = {}, {}
for i = 1, ROUNDS do
  alone[i] = turn(false)
  reloading[i] = turn(true)
end
print(('\n%-10s %10s %10s %10s'):format('', 'p50 ms', 'p99 ms', 'p100 ms'))
for name, turns in pairs { alone = alone, reloading = reloading } do
  print(('%-10s %10.3f %10.3f %10.3f'):format(name, median(turns, 'p50'), median(turns, 'p99'), median(turns, 'p100')))
end
print(('added to the slowest request: %.3f ms; failed: %d'):format(
  median(reloading, 'p100') - median(alone, 'p100'), failed))
work:close()
running:discard()
if failed > 0 then
  print(first_failure)
  os.exit(1)
end
