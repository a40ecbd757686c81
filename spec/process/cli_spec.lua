-- SPDX-License-Identifier: MIT
--
-- The program as a shell sees it: its words, its exit status, signals.

local server = require 'spec.support.server'

describe('neap', function()
  local directory, running

  before_each(function()
    directory = server.directory()
    running = nil
  end)

  after_each(function()
    if running then running:kill() end
    for _, name in ipairs(running and running:segments() or {}) do os.remove('/dev/shm/' .. name) end
    server.remove(directory)
  end)

  -- Runs a command to its end: its exit status and everything it printed.
  local function run(...)
    local pipe = assert(io.popen(("'%s' %s 2>&1; echo \"status $?\""):format(server.bin, table.concat({ ... }, ' '))))
    local text = pipe:read '*a'
    pipe:close()
    return tonumber(text:match 'status (%d+)\n$'), text
  end

  local function http(path)
    local pipe = assert(io.popen(("curl -s -m 10 'http://127.0.0.1:%d%s'"):format(running.http_port, path)))
    local text = pipe:read '*a'
    pipe:close()
    return text
  end

  it('prints its version and its commands', function()
    local status, text = run '--version'
    assert.equal(0, status)
    assert.truthy(text:match '^neap %d+%.%d+%.%d+\n')
    status, text = run '--help'
    assert.equal(0, status)
    assert.truthy(text:find('server', 1, true))
  end)

  it('prints the flags of a command in both ways of asking', function()
    local status, text = run('help', 'server')
    assert.equal(0, status)
    assert.truthy(text:find('--eviction-policy', 1, true))
    assert.same({ status, text }, { run('server', '--port', '1', '--help') })
  end)

  it('ends with 2 and a suggestion when a word is misspelt', function()
    local status, text = run 'servr'
    assert.equal(2, status)
    assert.truthy(text:find("did you mean 'server'?", 1, true))
    status, text = run('server', '--chunk-sise', '3')
    assert.equal(2, status)
    assert.truthy(text:find("did you mean '--chunk-size'?", 1, true))
    status = run()
    assert.equal(2, status)
  end)

  it('ends with 2 when a store is not what its configuration says', function()
    local status, text = run('server', '--l1-size-gb=0.01', '--eviction-policy=LRU', '--port=0', '--http-port=0',
      [[--l2-adapter='{"type":"fss","base_path":"x"}']])
    assert.equal(2, status)
    assert.truthy(text:find("did you mean 'fs'?", 1, true))
  end)

  it('warns once for each flag that has no effect', function()
    running = server.start { directory = directory, flags = { '--grpc-server-workers', '3', '--enable-tracing' } }
    local output = running:output()
    local _, count = output:gsub('has no effect here', '')
    assert.equal(2, count)
    assert.truthy(output:find('--grpc-server-workers has no effect here (gRPC)', 1, true))
  end)

  it('tells what it runs with at /config', function()
    running = server.start { directory = directory, flags = { '--eviction-ratio', '0.125' } }
    local text = http '/config'
    assert.truthy(text:match('"eviction_ratio":%s*0%.125'))
    assert.truthy(text:match('"port":%s*' .. running.port))
    assert.truthy(text:match('"pool_name":%s*"lmcache_l1_pool_' .. running.shm:gsub('%-', '%%-') .. '"'))
  end)

  it('answers 404 for metrics when they are switched off', function()
    running = server.start { directory = directory, flags = { '--disable-metrics' } }
    assert.equal('{"detail":"Not Found"}', http '/metrics')
  end)

  it('ends with 0 on SIGTERM and leaves nothing in shared memory', function()
    running = server.start { directory = directory }
    assert.is_true(#running:segments() > 0)
    assert.equal(0, running:stop())
    assert.same({}, running:segments())
    assert.truthy(running:output():find('MPCacheServer closed', 1, true))
  end)

  it('ends with 1 at once on the second signal while a store keeps it from draining', function()
    local file = assert(io.open(directory .. '/slow.lua', 'w'))
    file:write [[
      local neap = require 'neap'
      local function nothing() return {} end
      local function forever() while true do end end
      local M = {}
      M.Slow = neap.adapter { open = nothing, store = nothing, lookup = nothing, load = nothing, list = forever }
      return M
    ]]
    file:close()
    running = server.start {
      directory = directory,
      l2 = { '{"type":"plugin","module_path":"slow","class_name":"Slow"}' },
      flags = { '--plugin-path', directory },
    }
    running:signal(server.SIGTERM)
    assert.truthy(server.eventually(10, function() return running:output():find('MPCacheServer closed', 1, true) end))
    running:signal(server.SIGTERM)
    assert.equal(1, running:wait(), running:output():sub(-4000))
  end)

  it('leaves L1 for the next start when it is told to', function()
    running = server.start { directory = directory, flags = { '--l1-keep' } }
    assert.equal(0, running:stop())
    assert.is_true(#running:segments() > 0)
  end)

  it('says which port is taken and ends with 1', function()
    running = server.start { directory = directory }
    local status, text = run('server', '--l1-size-gb=0.01', '--eviction-policy=LRU', '--port=0',
      '--http-host=127.0.0.1', '--http-port=' .. running.http_port)
    assert.equal(1, status)
    assert.truthy(text:find('cannot listen for HTTP on 127.0.0.1:' .. running.http_port, 1, true))
  end)
end)
