-- SPDX-License-Identifier: MIT
--
-- Runs Lua inside the engine's own VM: code given as text becomes hooks of an adapter that is opened for one spec.

local driver = require 'spec.support.adapter_driver'

local TEMPLATE = [[
local neap = require 'neap'
local M = {}
local report
M.Probe = neap.adapter {
  store = function(self, key, buf) %s end,
  lookup = function(self, key) %s end,
  load = function(self, key, buf) %s end,
  status = function() return { report = report } end,
}
return M
]]

local hook = { key = driver.key }

--- An opened adapter whose hooks have these bodies; what they put into `report` is in its status. The spec must
--- call close().
function hook.open(bodies)
  local _, write, remove = driver.directory()
  local source = TEMPLATE:format(bodies.store or 'return true', bodies.lookup or 'return false',
    bodies.load or 'return true')
  local path = write('probe.lua', (bodies.head or '') .. '\n' .. source)
  local adapter, message = driver.open_lua(path, 'Probe', '{}')
  if not adapter then
    remove()
    error(message)
  end
  local close = adapter.close
  function adapter:close()
    remove()
    close(self)
  end
  return adapter
end

--- What a store hook with this body reports, as JSON, and the store's result. `report` is set by the body.
function hook.run(body, data)
  local adapter = hook.open { store = body .. ' return true' }
  local result = adapter:store(driver.key(1), data or 'payload')
  local json = adapter:status():match '"report":(.*),"is_healthy"'
  local why = not json and result
  adapter:close()
  return json or why, result
end

return hook
