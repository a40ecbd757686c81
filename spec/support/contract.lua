-- SPDX-License-Identifier: MIT
--
-- What every store must do, as specs: asked of each store that ships, from the file that knows how to set it up.
-- Called inside a describe block.

local driver = require 'spec.support.adapter_driver'

---@param open fun(): spec.Driver an adapter over an empty store, opened for each spec
---@param discard? fun() after each spec, when the adapter is closed
---@param envelope? integer bytes that the store adds to an object; negative: at most, for it makes objects smaller
return function(open, discard, envelope)
  setfenv(1, getfenv(2)) -- busted's functions are in the environment of the block only
  local adapter
  local extra = math.abs(envelope or 0)

  before_each(function()
    adapter = open()
  end)

  after_each(function()
    adapter:close()
    if discard then
      discard()
    end
  end)

  it('gives back what was stored, byte for byte', function()
    local data = ('0123456789'):rep(10000)
    local stored, bytes = adapter:store(driver.key(1), data)
    assert.equals('NEAP_OK', stored)
    assert.is_true(bytes == #data + extra or (envelope or 0) < 0 and bytes < #data)
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
      expected[driver.key(n, 'alice')] = n + extra
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
end
