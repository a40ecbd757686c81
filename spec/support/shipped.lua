-- SPDX-License-Identifier: MIT
--
-- The stores that neap ships and what each needs to be checked: one line per store. `setup(directory)` starts what the
-- store talks to and returns the parameters as JSON, and a function that stops it.

local kit = require 'spec.support.check'

local MEMORY = '{"max_size_gb": 0.2, "mock_bandwidth_gb": 1000}'

--- Parameters that need nothing but a directory; %s is its path.
local function files(json)
  return function(directory) return (json:gsub('%%s', directory)) end
end

local function fixed(json)
  return function() return json end
end

--- A store around, or over, stores in files.
local function over(json)
  local fs = '{"type": "fs", "base_path": "%%s/%s"}'
  return files((json:gsub('FS(%d)', function(n) return fs:format(n) end)))
end

local function with_keys(json)
  return function(directory)
    local keys = assert(io.open(directory .. '/keys', 'w'))
    keys:write(('1 %064x\n'):format(12345))
    keys:close()
    os.execute(("chmod 600 -- '%s/keys'"):format(directory))
    return over(json)(directory)
  end
end

--- A store that speaks to a server of its own: module.start(), or what `start` names, begins one; params(server) tells
--- where it is. Without the program the store is left out: module.missing() says why.
local function served(module, params, start)
  return function()
    local server = require('spec.support.' .. module)[start or 'start']()
    return params(server), function() server:discard() end
  end, require('spec.support.' .. module).missing
end

-- The configuration of one --l2-adapter without its type.
local function without_type(json)
  return (json:gsub('"type": "%w+", ', ''))
end

---@class spec.Shipped
---@field what string what is given to `neap check`
---@field setup fun(directory: string): string, (fun())?
---@field name? string if `what` does not tell
---@field missing? string why it cannot be checked here
---@field composed? boolean made of other stores

---@type spec.Shipped[]
local shipped = {
  { what = 'mock', setup = fixed(MEMORY) },
  { what = 'fs', setup = files '{"base_path": "%s"}' },
  { what = 'fs', name = 'fs with checksums', setup = files '{"base_path": "%s", "checksum": "crc32"}' },
  { what = (os.getenv 'NEAP_BUILD' or 'build') .. '/lib/neap/adapters/memory.so', name = 'the memory plugin',
    setup = fixed(MEMORY) },
  { what = 'mirror', composed = true, setup = over '{"stores": [FS1, FS2], "quorum": 2}' },
  { what = 'tier', composed = true, setup = over '{"stores": [FS1, FS2], "promote": true, "write": "all"}' },
  { what = 'shard', composed = true, setup = over '{"stores": [FS1, FS2, FS3]}' },
  { what = 'fault', composed = true, setup = over '{"inner": FS1}' },
  { what = 'checksum', composed = true, setup = over '{"inner": FS1}' },
  { what = 'compress', composed = true, setup = over '{"inner": FS1}' },
  { what = 'seal', composed = true, setup = with_keys '{"key_file": "%s/keys", "inner": FS1}' },
  { what = kit.root .. '/examples/lmc_external_l2_adapter/init.lua', name = 'the LMCache example',
    setup = fixed(MEMORY) },
  { what = 'log', setup = files '{"base_path": "%s", "segment_mb": 8}' },
}

--- Stores with servers.
---@param module string that starts one
---@param params fun(server: table): string
---@param start? string
local function add(what, name, module, params, start)
  local setup, missing = served(module, params, start)
  shipped[#shipped + 1] = { what = what, name = name, setup = setup, missing = missing and missing() }
end

add('redis', 'redis over TCP', 'redis', function(server) return ('{"port": %d}'):format(server.port) end)
add('redis', 'redis over a unix socket', 'redis', function(server) return ('{"path": "%s"}'):format(server.path) end)
add('redis', 'redis over a cluster', 'redis', function(cluster)
  return ('{"port": %d}'):format(cluster.nodes[1].port)
end, 'start_cluster')
add('s3', nil, 's3', function(server) return without_type(server:config()) end)
add('http', nil, 'nginx', function(server) return without_type(server:config('kv', '"listing": "nginx"')) end)

return shipped
