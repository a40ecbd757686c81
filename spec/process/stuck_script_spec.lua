-- SPDX-License-Identifier: MIT
--
-- Scripts that never come back, as an operator meets them: the adapter is reported and degraded, the engine serves on.

local server = require 'spec.support.server'
local workload = require 'spec.support.workload'

local MODULE = [[
local neap = require 'neap'
local ffi = require 'ffi'
ffi.cdef 'int poll(void *fds, unsigned long count, int timeout_ms);'
return { Stuck = neap.adapter {
  %s
  store = function()
    %s
  end,
  lookup = function() return false end, load = function() return false end } }
]]

describe('a store hook that never comes back', function()
  local directory, running

  before_each(function()
    directory = server.directory()
  end)

  after_each(function()
    if running then running:discard() else server.remove(directory) end
    running = nil
  end)

  local function start(declarations, body, deadline_s)
    local path = directory .. '/stuck.lua'
    local file = assert(io.open(path, 'w'))
    file:write(MODULE:format(declarations, body))
    file:close()
    -- a stuck VM is left to the end of the process on purpose
    running = server.start {
      directory = directory,
      env = { ASAN_OPTIONS = 'detect_leaks=0' },
      flags = { '--plugin-path', directory },
      l2 = { ('{"type":"plugin","module_path":"%s","class_name":"Stuck","deadline":%g}'):format(
        path, deadline_s) },
    }
    return running
  end

  local function status()
    local pipe = assert(io.popen(('env -u LD_PRELOAD curl -s http://127.0.0.1:%d/status'):format(running.http_port)))
    local text = pipe:read '*a'
    pipe:close()
    return text
  end

  local function serves(load, prompt)
    assert.equal(1, load:store(prompt, 272))
    assert.equal(1, load:hit_and_verify(prompt, 272))
  end

  local function said(text)
    return server.eventually(60, function() return running:output():find(text, 1, true) end)
  end

  for what, body in pairs {
    ['compiled, in a loop'] = 'local n = 0 while true do n = n + 1 end',
    ['blocked in C'] = 'ffi.C.poll(nil, 0, -1)',
  } do
    it(('(%s) is reported with its line, and everybody else is served'):format(what), function()
      start('', body, 0.5)
      local load = workload.new(running)
      serves(load, 1)
      serves(load, 2)
      assert.truthy(said "has been inside 'store of ")
      assert.truthy(said "/stuck.lua:6' for ")
      assert.truthy(status():find('"is_healthy":false', 1, true))
      serves(load, 3)
      load:close()
      if os.getenv 'NEAP_SLOW' then assert.equal(0, running:stop(), running:output()) end
    end)
  end

  it('(guarded, in a loop) is stopped with a traceback each time', function()
    -- by the clock the slice is ten times as long: a busy machine must not meet the deadline first
    start('guarded = true, slice = 0.1,', 'while true do end', 60)
    local load = workload.new(running)
    serves(load, 1)
    assert.truthy(said 'stopped: a guarded script may run for 100 ms without awaiting')
    assert.truthy(said 'stack traceback:')
    serves(load, 2)
    load:close()
    assert.equal(0, running:stop())
  end)
end)
