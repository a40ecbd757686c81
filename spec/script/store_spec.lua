-- SPDX-License-Identifier: MIT
--
-- neap.open: a script that uses another adapter as its own store.

local driver = require 'spec.support.adapter_driver'
local hook = require 'spec.support.hook'

local MOCK = "{ type = 'mock', max_size_gb = 1, mock_bandwidth_gb = 1000 }"

-- The whole adapter is one inner store; every hook is one call.
local PASS = [[
local neap = require 'neap'
return { Pass = neap.adapter {
  open = function(self, params)
    local code, message
    self.inner, code, message = neap.open(params.inner)
    if not self.inner then return nil, code, message end
  end,
  store = function(self, key, buffer) return self.inner:store(key, buffer) end,
  lookup = function(self, key) return self.inner:lookup(key) end,
  load = function(self, key, buffer) return self.inner:load(key, buffer) end,
  delete = function(self, key) return self.inner:delete(key) end,
  list = function(self, emit)
    local entries, code, message = self.inner:list()
    if not entries then return nil, code, message end
    for key, bytes, used in entries do
      if not emit(key, bytes, used) then return end
    end
  end,
  status = function(self) return { inner = self.inner:status() } end,
  close = function(self) if self.inner then self.inner:close() end end,
}, PassConfig = { inner = { type = 'object', required = true } } }
]]

describe('neap.open', function()
  local dir, write, remove, adapter

  before_each(function()
    dir, write, remove = driver.directory()
  end)

  after_each(function()
    if adapter then
      adapter:close()
      adapter = nil
    end
    os.execute(('rm -rf -- %s/*'):format(dir))
    remove()
  end)

  -- count adapters around a mock
  local function pass(count, inner)
    local path = write('pass.lua', PASS)
    local json = inner or '{"type": "mock", "max_size_gb": 1, "mock_bandwidth_gb": 1000}'
    for _ = 2, count do
      json = ('{"type": "pass", "inner": %s}'):format(json)
    end
    local message
    adapter, message = driver.open_config(('{"type": "plugin", "module_path": "%s", "adapter_params": {"inner": %s}, '
      .. '"class_name": "Pass"}'):format(path, json), dir)
    return adapter, message
  end

  it('gives a store whose methods return what hooks return', function()
    assert(pass(1))
    local data = ('0123456789'):rep(5000)
    assert.same({ 'NEAP_OK', #data }, { adapter:store(driver.key(1), data) })
    assert.same({ 'NEAP_OK', 0 }, { adapter:store(driver.key(1), data) })
    assert.same({ 'NEAP_OK', #data }, { adapter:lookup(driver.key(1)) })
    assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(2))))
    local result, back = adapter:load(driver.key(1), #data)
    assert.equals('NEAP_OK', result)
    assert.is_true(back == data)
    assert.equals('NEAP_ENOENT', (adapter:load(driver.key(2), 10)))
    assert.equals('NEAP_ECORRUPT', (adapter:load(driver.key(1), 10)))
    assert.matches('"used_bytes":50000', adapter:status())
    assert.equals('NEAP_OK', adapter:delete(driver.key(1)))
    assert.equals('NEAP_ENOENT', adapter:delete(driver.key(1)))
  end)

  it('lists what the inner store holds, and stops when asked to', function()
    assert(pass(1))
    for n = 1, 50 do
      adapter:store(driver.key(n, n % 2 == 0 and 'alice'), ('x'):rep(n))
    end
    local found = {}
    for _, entry in ipairs((adapter:list())) do
      found[entry.key] = entry.bytes
    end
    for n = 1, 50 do
      assert.equals(n, found[driver.key(n, n % 2 == 0 and 'alice')])
    end
    assert.equals(7, #adapter:list(7))
  end)

  it('opens stores inside stores inside stores', function()
    assert(pass(4))
    assert.same({ 'NEAP_OK', 4 }, { adapter:store(driver.key(1), 'deep') })
    assert.same({ 'NEAP_OK', 'deep' }, { adapter:load(driver.key(1), 4) })
  end)

  it('does so to a depth of eight', function()
    local _, message = pass(9)
    assert.matches('nested deeper than 8', message)
  end)

  it('says what is wrong with the inner configuration', function()
    local _, message = pass(1, '{"type": "mokc"}')
    assert.matches("'mock'", message)
    _, message = pass(1, '{"type": "mock", "max_size_gb": 0, "mock_bandwidth_gb": 1}')
    assert.matches('max_size_gb must be a positive number', message)
    _, message = pass(1, '{"type": "mock", "max_size_gb": 1, "mock_bandwidth_gb": 1, "max_capacity_gb": 3}')
    assert.matches("an inner adapter has no 'max_capacity_gb'", message)
    _, message = pass(1, '{}')
    assert.matches("missing 'type'", message)
  end)

  it('serves many operations at once', function()
    assert(pass(2))
    local ops = {}
    for n = 1, 60 do
      ops[n] = adapter:submit('store', { { key = driver.key(n), data = ('%08d'):format(n) } })
    end
    for n = 1, 60 do
      assert.equals('NEAP_OK', ops[n]:wait():result())
    end
    for n = 1, 60 do
      ops[n] = adapter:submit('load', { { key = driver.key(n), bytes = 8 } })
    end
    for n = 1, 60 do
      assert.equals(('%08d'):format(n), ops[n]:wait():data())
    end
  end)

  local function slow(count)
    write('slow.lua', [[local neap = require 'neap'
      local reached = false
      local function yes() return reached end
      return { Slow = neap.adapter { lookup = yes, load = yes, store = function()
        reached = true
        neap.sleep(1000)
        return true
      end } }]])
    return assert(pass(count, '{"type": "slow"}'))
  end

  it('cancels what is below', function()
    slow(2)
    local op = adapter:submit('store', { { key = driver.key(1), data = 'x' } })
    driver.eventually(function() return adapter:lookup(driver.key(2)) == 'NEAP_OK' end)
    op:cancel()
    assert.equals('NEAP_ECANCELED', op:wait():result())
  end)

  it('ends what is below at the deadline of the operation', function()
    slow(2)
    local op = adapter:submit('store', { { key = driver.key(1), data = 'x' } }, 20)
    assert.equals('NEAP_ETIMEDOUT', op:wait():result())
  end)

  it('waits for what does not end early, and takes what it did', function()
    local items = { { key = driver.key(1), data = ('x'):rep(10) }, { key = driver.key(2), data = 'never begun' } }
    local op
    for _, slower in ipairs { 1, 10, 100 } do -- until the first one is begun in time
      if adapter then adapter:close() end
      assert(pass(2, ('{"type": "mock", "max_size_gb": 1, "mock_bandwidth_gb": %g}'):format(1e-7 / slower)))
      op = adapter:submit('store', items, 10 * slower):wait()
      if op:result(1) == 'NEAP_OK' then break end
    end
    assert.equals('NEAP_OK', op:result(1))
    assert.equals('NEAP_ETIMEDOUT', op:result(2))
    assert.equals('NEAP_OK', (adapter:lookup(driver.key(1))))
    assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(2))))
  end)

  it('says which module is missing', function()
    local report = hook.run [[
      local inner, code, message = neap.open { type = 'plugin', module_path = 'none', class_name = 'X' }
      report = { inner == nil, code, message } ]]
    assert.matches('[true,"ENOENT","', report, 1, true)
    assert.matches("no module 'none'", report, 1, true)
  end)

  it('keeps batches whole', function()
    local report = hook.run(([[
      local inner = assert(neap.open(%s))
      local keys, buffers, back = {}, {}, {}
      for i = 1, 3 do
        keys[i] = neap.key(('demo@01000100@0@%%064x'):format(i))
        buffers[i] = neap.buffer(i):fill(i)
        back[i] = neap.buffer(2)
      end
      report = { inner:store_batch(keys, buffers), inner:lookup_batch { keys[1], neap.key(key.text), keys[3] },
        inner:load_batch(keys, back), inner:delete_batch(keys), inner:delete_batch(keys),
        inner:load_batch({}, {}), back[2]:equals(buffers[2]) }
    ]]):format(MOCK))
    assert.equals('[[1,2,3],[1,false,3],["ECORRUPT",true,"ECORRUPT"],[true,true,true],[false,false,false],{},true]',
      report)
  end)

  it('hands over empty arrays as arrays', function()
    write('takes.lua', [[local neap = require 'neap'
      local function yes() return true end
      return { T = neap.adapter { store = yes, lookup = yes, load = yes }, TConfig = { list = { type = 'array' } } }]])
    assert(pass(1, '{"type": "takes", "list": []}'))
  end)

  it('refuses what is not a key, a buffer or a table of options, before anything is begun', function()
    local report = hook.run(([[
      local inner = assert(neap.open(%s))
      local function try(...) local ok, why = pcall(...) return not ok and why:gsub('.*: ', '') end
      report = { try(neap.open, 3), try(neap.open, { f = print }), try(inner.load, inner, 'x', buf),
        try(inner.load, inner, key, 3), try(inner.load, inner, key, buf), try(inner.store_batch, inner, { key }, {}),
        try(inner.store, 3, key, buf), try(inner.can, inner, 'fly') }
    ]]):format(MOCK))
    for _, text in ipairs { 'table expected, got number', 'a function has no JSON form',
      'neap.key expected, got string', 'neap.buffer expected, got number', 'it holds what is to be stored',
      'expected as many buffers as keys', 'neap.store expected, got number', "invalid option 'fly'" } do
      assert.matches(text, report, 1, true)
    end
  end)

  it('closes a store once, for those who use it too', function()
    local report = hook.run(([[
      local inner = assert(neap.open(%s))
      local before = tostring(inner)
      local results = { inner:close(), inner:close(), before, tostring(inner), inner:can 'store' }
      local _, code, message = inner:store(key, buf)
      results[6], results[7] = code, message
      results[8] = select(2, inner:list())
      results[9] = select(2, inner:status())
      report = results
    ]]):format(MOCK))
    assert.equals('[true,true,"neap.store (mock)","neap.store (mock, closed)",false,"ECLOSED","mock: store: already '
      .. 'closed","ECLOSED","ECLOSED"]', report)
  end)

  it('closes with the adapter what a script forgot', function()
    adapter = hook.open { store = ('for _ = 1, 3 do assert(neap.open(%s)) end return true'):format(MOCK) }
    assert.equals('NEAP_OK', (adapter:store(driver.key(1), 'x')))
  end) -- a thread left behind would be found by the sanitizers' runs
end)
