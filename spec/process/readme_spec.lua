-- SPDX-License-Identifier: MIT
--
-- The store that README shows is taken from there and used; the policy is the one that the walk begins with.

local server = require 'spec.support.server'
local workload = require 'spec.support.workload'

describe('the policy in README', function()
  it('is examples/policies/lru.lua', function()
    local shipped = server.read('examples/policies/lru.lua'):gsub('^%-%- SPDX[^\n]*\n', ''):gsub('[^\n]+', '    %0')
    assert.truthy(server.read('README.md'):find('\n' .. shipped .. '\n', 1, true))
  end)
end)

describe('the store in README', function()
  it('keeps what was stored when the first level is emptied', function()
    local code = assert(server.read('README.md'):match '```lua\n(.-)```')
    local directory = server.directory()
    local file = assert(io.open(directory .. '/drawer.lua', 'w'))
    file:write(code)
    file:close()
    local running = server.start {
      directory = directory, flags = { '--plugin-path', directory },
      l2 = { '{"type":"plugin","module_path":"drawer","class_name":"Drawer"}' },
    }
    finally(function() running:discard() end)

    local load = workload.new(running)
    assert.equal(3, load:store(1, 800))
    assert.truthy(server.eventually(20, function()
      load.scheduler:clear(true)
      return load:hit_and_verify(1, 800) == 3
    end))
    load:close()
    assert.equal(0, running:stop(), running:output())
  end)
end)
