-- SPDX-License-Identifier: MIT
--
-- One contract in two languages: what every store must do, asked of those that ship. The Lua example, a native plugin
-- and built-in types are opened the way the engine opens them.

local contract = require 'spec.support.contract'
local driver = require 'spec.support.adapter_driver'

local BUILD = os.getenv 'NEAP_BUILD' or driver.root .. '/build'
local SHIPPED = driver.root .. '/adapters'
local CLASS = '{"type": "plugin", "module_path": "%s", "class_name": "%s", '
  .. '"adapter_params": {"max_size_gb": 0.01, "mock_bandwidth_gb": 1000}}'

local stores = {
  { name = 'the Lua example', json = CLASS:format('lmc_external_l2_adapter', 'InMemoryL2Adapter'),
    plugins = driver.root .. '/examples' },
  { name = 'the native plugin', json = CLASS:format('memory', 'InMemoryL2Adapter'),
    plugins = BUILD .. '/lib/neap/adapters' },
  { name = 'the built-in mock', json = '{"type": "mock", "max_size_gb": 0.01, "mock_bandwidth_gb": 1000}' },
  { name = 'the built-in fs', json = '{"type": "fs", "base_path": "%s"}' },
  { name = 'mirror', json = '{"type": "mirror", "stores": [{"type": "fs", "base_path": "%s/a"}, '
    .. '{"type": "fs", "base_path": "%s/b"}]}', plugins = SHIPPED },
  { name = 'tier', json = '{"type": "tier", "promote": true, "stores": [{"type": "mock", "max_size_gb": 0.01, '
    .. '"mock_bandwidth_gb": 1000}, {"type": "fs", "base_path": "%s/b"}]}', plugins = SHIPPED },
  { name = 'shard', json = '{"type": "shard", "stores": [{"type": "fs", "base_path": "%s/a"}, '
    .. '{"type": "fs", "base_path": "%s/b"}, {"type": "fs", "base_path": "%s/c"}]}', plugins = SHIPPED },
  { name = 'fault', json = '{"type": "fault", "inner": {"type": "fs", "base_path": "%s/a"}}', plugins = SHIPPED },
  { name = 'checksum', json = '{"type": "checksum", "inner": {"type": "fs", "base_path": "%s/a"}}', extra = 24 },
  { name = 'checksum as a key', json = '{"type": "mock", "max_size_gb": 0.01, "mock_bandwidth_gb": 1000, '
    .. '"checksum": "crc32c"}', extra = 24 },
  { name = 'seal', json = '{"type": "seal", "key_file": "%s/keys", "inner": {"type": "fs", "base_path": "%s/a"}}',
    extra = 52 },
  { name = 'seal in Lua', json = '{"type": "tier", "stores": [{"type": "seal", "key_file": "%s/keys", "inner": '
    .. '{"type": "mirror", "stores": [{"type": "fs", "base_path": "%s/a"}]}}]}', extra = 52, plugins = SHIPPED },
  { name = 'compress', json = '{"type": "compress", "inner": {"type": "fs", "base_path": "%s/a"}}', extra = -24 },
  { name = 'fault_inject', json = '{"type": "fault_inject", "inner": {"type": "fs", "base_path": "%s/a"}}',
    plugins = SHIPPED },
}

for _, store in ipairs(stores) do
  describe(store.name, function()
    local dir, remove

    contract(function()
      local write
      dir, write, remove = driver.directory()
      local keys = write('keys', ('1 %064x\n'):format(7))
      os.execute(('chmod 600 -- %s'):format(keys))
      return assert(driver.open_config(store.json:gsub('%%s', dir), store.plugins))
    end, function()
      os.execute(('rm -rf -- %s/*'):format(dir))
      remove()
    end, store.extra)
  end)
end
