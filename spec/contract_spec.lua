-- SPDX-License-Identifier: MIT
--
-- One contract in two languages: what every store must do, asked of those that ship. The Lua example, a native plugin
-- and built-in types are opened the way the engine opens them.

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
  { name = 'fault_inject', json = '{"type": "fault_inject", "inner": {"type": "fs", "base_path": "%s/a"}}',
    plugins = SHIPPED },
}

for _, store in ipairs(stores) do
  describe(store.name, function()
    local adapter, dir, _, remove

    before_each(function()
      local message
      dir, _, remove = driver.directory()
      adapter, message = driver.open_config(store.json:gsub('%%s', dir), store.plugins)
      assert(adapter, message)
    end)

    after_each(function()
      adapter:close()
      os.execute(('rm -rf -- %s/*'):format(dir))
      remove()
    end)

    it('gives back what was stored, byte for byte', function()
      local data = ('0123456789'):rep(10000)
      assert.same({ 'NEAP_OK', #data }, { adapter:store(driver.key(1), data) })
      local result, back = adapter:load(driver.key(1), #data)
      assert.equals('NEAP_OK', result)
      assert.is_true(back == data)
    end)

    it('answers for each object of an operation by itself', function()
      local items = {}
      for n = 1, 20 do
        items[n] = { key = driver.key(n), data = ('%04d'):format(n), bytes = 4 }
        if n % 2 == 0 then
          adapter:store(items[n].key, items[n].data)
        end
      end
      local lookup, load = adapter:submit('lookup', items):wait(), adapter:submit('load', items):wait()
      for n = 1, 20 do
        local expected = n % 2 == 0 and 'NEAP_OK' or 'NEAP_ENOENT'
        assert.equals(expected, lookup:result(n))
        assert.equals(expected, load:result(n))
        assert.is_true(n % 2 ~= 0 or load:data(n) == items[n].data)
      end
    end)

    it('keeps what the first store brought', function()
      adapter:store(driver.key(1), 'first')
      assert.same({ 'NEAP_OK', 0 }, { adapter:store(driver.key(1), 'other') })
      assert.same({ 'NEAP_OK', 'first' }, { adapter:load(driver.key(1), 5) })
    end)

    it('calls an object of another length corrupt', function()
      adapter:store(driver.key(1), 'four')
      assert.equals('NEAP_ECORRUPT', (adapter:load(driver.key(1), 3)))
      assert.equals('NEAP_ECORRUPT', (adapter:load(driver.key(1), 5)))
    end)

    it('tells tenants apart', function()
      adapter:store(driver.key(1, 'alice'), 'hers')
      adapter:store(driver.key(1), 'ours')
      assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1, 'bob'))))
      assert.same({ 'NEAP_OK', 'hers' }, { adapter:load(driver.key(1, 'alice'), 4) })
      assert.same({ 'NEAP_OK', 'ours' }, { adapter:load(driver.key(1), 4) })
    end)

    it('forgets what was deleted', function()
      adapter:store(driver.key(1), 'x')
      assert.equals('NEAP_OK', adapter:delete(driver.key(1)))
      assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1))))
      assert.equals('NEAP_ENOENT', adapter:delete(driver.key(1)))
    end)

    it('lists what it holds, and stops when asked to', function()
      local expected, found = {}, {}
      for n = 1, 5 do
        adapter:store(driver.key(n, 'alice'), ('x'):rep(n))
        expected[driver.key(n, 'alice')] = n
      end
      local entries, result = adapter:list()
      assert.equals('NEAP_OK', result)
      for _, entry in ipairs(entries) do
        found[entry.key] = entry.bytes
      end
      assert.same(expected, found)
      assert.equals(2, #adapter:list(2))
    end)

    it('ends every operation once when many are canceled', function()
      local ops = {}
      for n = 1, 30 do
        ops[n] = adapter:submit('store', { { key = driver.key(n), data = ('x'):rep(10000) } })
        ops[n]:cancel()
      end
      for n = 1, 30 do
        local result = ops[n]:wait():result()
        assert.is_true(result == 'NEAP_OK' or result == 'NEAP_ECANCELED', result)
        assert.equals(result == 'NEAP_OK' and 'NEAP_OK' or 'NEAP_ENOENT', (adapter:lookup(driver.key(n))))
      end
    end) -- close() raises if one ended twice

    it('has a status', function()
      assert.matches('^{.*}$', adapter:status() or '{}')
    end)
  end)
end
