-- SPDX-License-Identifier: MIT
--
-- A module on the plugin path as a type of its own: {"type": "NAME", parameters beside the framework's keys}.

local driver = require 'spec.support.adapter_driver'

local STORE = [[
local neap = require 'neap'
local Box = neap.adapter {
  open = function(self, params) self.size, self.objects = params.size, {} end,
  store = function() return true end,
  lookup = function() return false end,
  load = function() return false end,
  status = function(self) return { size = self.size } end,
}
]]

describe('a type that is a module', function()
  local dir, write, remove
  before_each(function() dir, write, remove = driver.directory() end)
  after_each(function() remove() end)

  it('is found on the plugin path, its only adapter taken, its parameters beside the type', function()
    write('box.lua', STORE .. "return { Box = Box, BoxConfig = { size = { type = 'integer', default = 7 } } }")
    local adapter = assert(driver.open_config('{"type": "box", "size": 3}', dir))
    assert.matches('"size":%s*3', adapter:status())
    adapter:close()
  end)

  it('has its parameters checked', function()
    write('box.lua', STORE .. "return { Box = Box, BoxConfig = { size = { type = 'integer' } } }")
    local _, message = driver.open_config('{"type": "box", "sise": 3}', dir)
    assert.matches("did you mean 'size'", message)
  end)

  it('must offer exactly one adapter', function()
    write('two.lua', STORE .. 'local Other = neap.adapter { store = print, lookup = print, load = print }\n'
      .. 'return { Box = Box, Other = Other }')
    local _, message = driver.open_config('{"type": "two"}', dir)
    assert.matches("'class_name' is missing.*Box, Other", message)
  end)

  it('is proposed when its name is misspelt', function()
    write('box.lua', STORE .. 'return { Box = Box }')
    local _, message = driver.open_config('{"type": "boxx"}', dir)
    assert.matches("unknown L2 adapter type 'boxx'; did you mean 'box'", message)
  end)

  it('cannot be a path', function()
    local _, message = driver.open_config('{"type": "../box"}', dir)
    assert.matches('unknown L2 adapter type', message)
  end)
end)
