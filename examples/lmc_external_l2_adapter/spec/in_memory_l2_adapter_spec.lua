-- SPDX-License-Identifier: MIT
--
-- The example adapter, driven through the real engine-side runtime. Run by install_and_test.sh.

local driver = require 'spec.support.adapter_driver'

local KIB, GIB = 1024, 1024 ^ 3
local PATH = driver.root .. '/examples/lmc_external_l2_adapter/init.lua'
local FAST = 1e6 -- GiB/s: transfers take no time worth mentioning

local function params(max_size_gb, mock_bandwidth_gb)
  return ('{"max_size_gb": %.17g, "mock_bandwidth_gb": %.17g}'):format(max_size_gb, mock_bandwidth_gb)
end

describe('InMemoryL2Adapter', function()
  local adapter

  local function open(json)
    local message
    adapter, message = driver.open_lua(PATH, 'InMemoryL2Adapter', json)
    return adapter, message
  end

  local function refused(json)
    local opened, message = open(json)
    assert.is_nil(opened)
    return message
  end

  after_each(function()
    if adapter then
      adapter:close()
      adapter = nil
    end
  end)

  describe('configuration', function()
    it('is announced when the adapter is created', function()
      assert(open(params(1, 20)))
      assert.is_true(adapter:logged 'InMemoryL2Adapter created: max_size_gb=1.0, mock_bandwidth_gb=20.0')
    end)

    it('prints numbers as Python prints floats', function()
      for _, case in ipairs { { 0.5, '0.5' }, { 0.1, '0.1' }, { 1e-5, '1e-05' }, { 123456789, '123456789.0' } } do
        assert(open(params(case[1], FAST)))
        assert.is_true(adapter:logged(('max_size_gb=%s, mock_bandwidth_gb=1000000.0'):format(case[2])), case[2])
        adapter:close()
      end
      adapter = nil
    end)

    it('needs both parameters', function()
      assert.matches('max_size_gb', refused '{"mock_bandwidth_gb": 1}')
      assert.matches('mock_bandwidth_gb', refused '{"max_size_gb": 1}')
    end)

    it('refuses a size or bandwidth that is not above zero', function()
      assert.matches('max_size_gb', refused(params(0, 1)))
      assert.matches('mock_bandwidth_gb', refused(params(1, -1)))
    end)

    it('refuses a parameter of the wrong type or name', function()
      assert.matches('max_size_gb', refused '{"max_size_gb": "1", "mock_bandwidth_gb": 1}')
      assert.matches('bandwidth', refused '{"max_size_gb": 1, "mock_bandwidth_gb": 1, "bandwidth": 1}')
    end)
  end)

  describe('loading', function()
    it('finds the class and its schema by name', function()
      assert(open(params(1, FAST)))
      assert.matches('"max_size_gb"', adapter:schema(), 1, true)
      assert.is_true(adapter:can 'delete')
      assert.is_true(adapter:can 'list')
    end)

    it('is found by the configuration that LMCache takes', function()
      local json = ('{"type": "plugin", "module_path": "lmc_external_l2_adapter", "class_name": "InMemoryL2Adapter", '
        .. '"adapter_params": %s}'):format(params(1, FAST))
      local message
      adapter, message = driver.open_config(json, driver.root .. '/examples')
      assert(adapter, message)
      assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1))))
    end)
  end)

  describe('objects', function()
    before_each(function()
      assert(open(params(1, FAST)))
    end)

    it('come back as they were stored', function()
      local data = ('neap'):rep(64 * KIB)
      assert.same({ 'NEAP_OK', #data }, { adapter:store(driver.key(1), data) })
      assert.same({ 'NEAP_OK', #data }, { adapter:lookup(driver.key(1)) })
      local result, loaded = adapter:load(driver.key(1), #data)
      assert.equals('NEAP_OK', result)
      assert.is_true(loaded == data)
    end)

    it('that were never stored are misses', function()
      assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1))))
      assert.equals('NEAP_ENOENT', (adapter:load(driver.key(1), 16)))
      assert.equals('NEAP_ENOENT', adapter:delete(driver.key(1)))
    end)

    it('are kept apart by tenant', function()
      adapter:store(driver.key(1, 'alice'), 'hers')
      assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1, 'bob'))))
      assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1))))
    end)

    it('keep what the first store brought', function()
      adapter:store(driver.key(1), 'first')
      assert.same({ 'NEAP_OK', 0 }, { adapter:store(driver.key(1), 'other') })
      assert.same({ 'NEAP_OK', 'first' }, { adapter:load(driver.key(1), 5) })
    end)

    it('are kept once when two stores of a key overlap', function()
      local item = { { key = driver.key(1), data = 'twins' } }
      local a, b = adapter:submit('store', item), adapter:submit('store', item)
      a:wait()
      b:wait()
      assert.equals('NEAP_OK', a:result())
      assert.equals('NEAP_OK', b:result())
      assert.equals(5, a:stored() + b:stored())
    end)

    it('of another length than asked for are corrupt, not short', function()
      adapter:store(driver.key(1), 'four')
      assert.equals('NEAP_ECORRUPT', (adapter:load(driver.key(1), 5)))
    end)

    it('are gone after a delete', function()
      adapter:store(driver.key(1), 'x')
      assert.equals('NEAP_OK', adapter:delete(driver.key(1)))
      assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1))))
    end)

    it('are listed with their sizes, oldest first', function()
      for n = 1, 3 do
        adapter:store(driver.key(n), ('x'):rep(n))
      end
      adapter:delete(driver.key(2))
      local entries, result = adapter:list()
      assert.equals('NEAP_OK', result)
      assert.equals(2, #entries)
      assert.same({ driver.key(1), 1, driver.key(3), 3 },
        { entries[1].key, entries[1].bytes, entries[2].key, entries[2].bytes })
    end)

    it('take results of their own in one operation', function()
      adapter:store(driver.key(2), 'two')
      local op = adapter:submit('lookup', { { key = driver.key(1) }, { key = driver.key(2) } }):wait()
      assert.same({ 'NEAP_ENOENT', 'NEAP_OK' }, { op:result(1), op:result(2) })
    end)
  end)

  describe('eviction', function()
    before_each(function()
      assert(open(params(4 * KIB / GIB, FAST))) -- room for 4 KiB
    end)

    it('drops the oldest objects until the new one fits', function()
      for n = 1, 4 do
        assert.equals('NEAP_OK', (adapter:store(driver.key(n), ('x'):rep(KIB))))
      end
      assert.equals('NEAP_OK', (adapter:store(driver.key(5), ('y'):rep(2 * KIB))))
      local found = {}
      for n = 1, 5 do
        found[n] = (adapter:lookup(driver.key(n)))
      end
      assert.same({ 'NEAP_ENOENT', 'NEAP_ENOENT', 'NEAP_OK', 'NEAP_OK', 'NEAP_OK' }, found)
      assert.matches('"used_bytes":4096', adapter:status(), 1, true)
      assert.matches('"evicted":2', adapter:status(), 1, true)
    end)

    it('does not count a load as use', function()
      for n = 1, 4 do
        adapter:store(driver.key(n), ('x'):rep(KIB))
      end
      adapter:load(driver.key(1), KIB)
      adapter:store(driver.key(5), 'x')
      assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1))))
    end)

    it('skips objects that were deleted', function()
      for n = 1, 4 do
        adapter:store(driver.key(n), ('x'):rep(KIB))
      end
      adapter:delete(driver.key(1))
      adapter:store(driver.key(5), ('x'):rep(KIB))
      assert.equals('NEAP_OK', (adapter:lookup(driver.key(2))))
    end)

    it('refuses an object larger than the capacity and keeps what is there', function()
      adapter:store(driver.key(1), 'kept')
      assert.equals('NEAP_ENOSPC', (adapter:store(driver.key(2), ('x'):rep(4 * KIB + 1))))
      assert.equals('NEAP_OK', (adapter:lookup(driver.key(1))))
    end)
  end)

  it('answers other operations while a transfer takes its time', function()
    local bytes = 256 * KIB
    assert(open(params(1, bytes / GIB / 20))) -- 20 s for one object
    local store = adapter:submit('store', { { key = driver.key(1), data = ('x'):rep(bytes) } })
    assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1))))
    assert.is_false(store:ended())
    store:cancel()
    assert.equals('NEAP_ECANCELED', store:wait():result())
    assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1))))
  end)
end)
