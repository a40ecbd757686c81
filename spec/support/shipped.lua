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

---@class spec.Shipped
---@field what string what is given to `neap check`
---@field setup fun(directory: string): string, (fun())?
---@field name? string if `what` does not tell

---@type spec.Shipped[]
return {
  { what = 'mock', setup = fixed(MEMORY) },
  { what = 'fs', setup = files '{"base_path": "%s"}' },
  { what = 'fs', name = 'fs with checksums', setup = files '{"base_path": "%s", "checksum": "crc32"}' },
  { what = (os.getenv 'NEAP_BUILD' or 'build') .. '/lib/neap/adapters/memory.so', name = 'the memory plugin',
    setup = fixed(MEMORY) },
  { what = kit.root .. '/examples/lmc_external_l2_adapter/init.lua', name = 'the LMCache example',
    setup = fixed(MEMORY) },
}
