-- SPDX-License-Identifier: MIT
--
-- The server as an operator meets it: the first hit, the end of the process, the next start, refusals at start.

local server = require 'spec.support.server'
local workload = require 'spec.support.workload'

describe('the server', function()
  local directory, running

  local function start(options)
    options.directory = directory
    running = server.start(options)
    return running
  end

  -- Starts a server that must refuse to run, and returns what it said.
  local function refused(options)
    local other = server.launch(options)
    local status, said = other:wait(), other:output()
    server.remove(other.options.directory)
    assert.is_true(status > 0, 'ended with ' .. status .. ' instead of an error code:\n' .. said)
    return said
  end

  before_each(function()
    directory = server.directory()
    running = nil
  end)

  after_each(function()
    if running then running:discard() else server.remove(directory) end
  end)

  it('stores the first prompt, hits it the second time, and gets it back from L2 after a clear', function()
    start { l2 = { ('{"type":"fs","base_path":"%s/l2"}'):format(directory) } }
    local load = workload.new(running)
    assert.equal(0, load:hit(1, 272))
    assert.equal(1, load:store(1, 272))
    assert.equal(1, load:hit_and_verify(1, 272))
    assert.truthy(server.eventually(10, function() return #server.files(directory .. '/l2', '.data') == 1 end))
    load.scheduler:clear(true)
    assert.equal(1, load:hit_and_verify(1, 272))
    load:close()
  end)

  it('reports what it did in the lines that operators of LMCache look for', function()
    start {}
    local load = workload.new(running)
    load:store(2, 300)
    load:hit_and_verify(2, 300)
    load:close()
    assert.equal(0, running:stop())
    local output = running:output()
    for _, words in ipairs { 'Stored 256 tokens', 'Retrieved 256 tokens', 'Prefetch request completed' } do
      assert.truthy(output:find(words, 1, true), words .. ' is missing in:\n' .. output)
    end
  end)

  it('ends with 0 on SIGTERM and leaves nothing in /dev/shm', function()
    start {}
    assert.is_true(#running:segments() > 0, 'no segment of that name while it runs')
    local load = workload.new(running)
    load:store(3, 600)
    load:close()
    assert.equal(0, running:stop())
    assert.same({}, running:segments())
  end)

  it('ends with 0 on SIGTERM in the middle of a worker\'s store', function()
    start {}
    local load = workload.new(running)
    load.worker:prepare_store(load:key(4, 600))
    assert.equal(0, running:stop())
    assert.same({}, running:segments())
    load:close()
  end)

  it('hands the first level over to the next start with --l1-keep', function()
    start { flags = { '--l1-keep' } }
    local load = workload.new(running)
    load:store(5, 600)
    assert.equal(0, running:stop())
    assert.is_true(#running:segments() > 0)
    running:restart()
    assert.equal(2, load:hit_and_verify(5, 600))
    load:close()
  end)

  it('takes the first level over after kill -9, and the worker need not register again', function()
    start {}
    local load = workload.new(running)
    load:store(6, 1100)
    running:kill()
    running:restart()
    assert.is_true(load.worker:ping(load.instance_id))
    assert.equal(4, load:hit_and_verify(6, 1100))
    assert.equal(2, load:store(6, 1600))
    assert.equal(6, load:hit_and_verify(6, 1600))
    load:close()
  end)

  it('removes damaged metadata of an earlier process, says so, and serves nothing of it', function()
    start {}
    local load = workload.new(running)
    load:store(7, 600)
    running:kill()
    local damaged = 0
    for _, name in ipairs(running:segments()) do
      local file = assert(io.open('/dev/shm/' .. name, 'r+b'))
      if file:seek 'end' ~= load.worker.pool_bytes then
        damaged = damaged + 1
        file:seek('set', 0)
        file:write(('\xa5'):rep(4096))
      end
      file:close()
    end
    assert.is_true(damaged > 0, 'no metadata segment beside the pool')
    running:restart()
    local again = workload.new(running)
    assert.equal(0, again:hit(7, 600))
    assert.truthy(running:output():lower():find 'remov', 'nothing said about it in:\n' .. running:output())
    load:close()
    again:close()
  end)

  it('refuses a pool whose name a living server owns, and that server goes on', function()
    start {}
    local load = workload.new(running)
    load:store(8, 600)
    local said = refused { shm = running.shm }
    assert.truthy(said:find(running.shm, 1, true), 'the name is missing in:\n' .. said)
    assert.equal(2, load:hit_and_verify(8, 600))
    load:close()
  end)

  it('stores nothing and stays alive when the pool is too small for one object', function()
    start { l1_size_gb = 0.001 }
    local load = workload.new(running, { hidden = 2048 })
    assert.equal(0, load:store(9, 600))
    assert.equal(0, load:hit(9, 600))
    assert.is_true(load.worker:ping(load.instance_id))
    load:close()
  end)

  it('names a plugin that is not there', function()
    local said = refused { l2 = { '{"type":"plugin","module_path":"no_such_module_here","class_name":"X"}' } }
    assert.truthy(said:find('no_such_module_here', 1, true), said)
  end)

  it('names file and line of a plugin with a syntax error', function()
    local file = assert(io.open(directory .. '/broken.lua', 'w'))
    file:write 'local t = {}\nthis is not Lua\n'
    file:close()
    local said = refused {
      flags = { '--plugin-path', directory }, l2 = { '{"type":"plugin","module_path":"broken","class_name":"X"}' },
    }
    assert.truthy(said:find('broken.lua:2', 1, true), said)
  end)

  it('refuses a shared object without the entry point of a plugin', function()
    local source = assert(io.open(directory .. '/alien.c', 'w'))
    source:write 'int alien(void) { return 1; }\n'
    source:close()
    assert.equal(0, os.execute(('cc -shared -fPIC -o %s/alien.so %s/alien.c'):format(directory, directory)))
    local said = refused {
      flags = { '--plugin-path', directory }, l2 = { '{"type":"plugin","module_path":"alien.so","class_name":"X"}' },
    }
    assert.truthy(said:find('neap_adapter_entry', 1, true), said)
  end)

  it('refuses a plugin built for another interface version', function()
    local source = assert(io.open(directory .. '/old.c', 'w'))
    source:write [[
#include <neap/adapter.h>
static const neap_adapter old = { .magic = NEAP_ADAPTER_MAGIC, .abi = NEAP_ADAPTER_ABI + 1000,
                                  .size = sizeof(neap_adapter), .name = "Old", .version = "1" };
NEAP_ADAPTER_EXPORT const neap_adapter *neap_adapter_entry(uint32_t i);
const neap_adapter *neap_adapter_entry(uint32_t i) { return i == 0 ? &old : NULL; }
]]
    source:close()
    local compile = 'cc -shared -fPIC -Iengine/include -o %s/old.so %s/old.c'
    assert.equal(0, os.execute(compile:format(directory, directory)))
    local said = refused {
      flags = { '--plugin-path', directory }, l2 = { '{"type":"plugin","module_path":"old.so","class_name":"Old"}' },
    }
    assert.truthy(said:find('old.so', 1, true) and said:find 'interface', said)
  end)

  it('refuses an unknown flag and a wrong value, by name', function()
    assert.truthy(refused { flags = { '--no-such-flag' } }:find('no-such-flag', 1, true))
    assert.truthy(refused { flags = { '--eviction-policy', 'Randum' } }:find("did you mean 'Random'?", 1, true))
    assert.truthy(refused { l2 = { '{"type":' } }:find('l2-adapter', 1, true))
  end)
end)
