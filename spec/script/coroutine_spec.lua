-- SPDX-License-Identifier: MIT
--
-- Operations as coroutines: awaiting, deadlines, cancel, and what goes wrong in hooks. Nothing here waits for time to
-- pass: what must last, lasts until it is canceled.

local driver = require 'spec.support.adapter_driver'
local hook = require 'spec.support.hook'

local BEGUN_MS = 300 -- a deadline by which a hook has begun, on a busy machine too

describe('a hook', function()
  local adapter

  local function open(bodies)
    adapter = hook.open(bodies)
    return adapter
  end

  after_each(function()
    if adapter then
      adapter:close()
      adapter = nil
    end
  end)

  local function items(count)
    local list = {}
    for n = 1, count do
      list[n] = { key = hook.key(n), data = 'data' .. n }
    end
    return list
  end

  it('suspends itself while others run', function()
    open { head = 'local woken', store = 'while not woken do neap.sleep(0.0001) end return true',
      lookup = 'woken = true return true' }
    local store = adapter:submit('store', items(1))
    assert.equals('NEAP_OK', (adapter:lookup(hook.key(1))))
    assert.equals('NEAP_OK', store:wait():result())
  end)

  it('awaits through pcall, metamethods and iterators', function()
    open { store = [[
      local sleepy = setmetatable({}, { __index = function() neap.sleep(0) return 3 end })
      local sum = 0
      for i in function(_, at) neap.sleep(0) at = (at or 0) + 1 return at < 3 and at or nil end do sum = sum + i end
      report = { pcall(function() neap.sleep(0) return sleepy.x end), sum }
      return true]] }
    assert.equals('NEAP_OK', (adapter:store(hook.key(1), 'x')))
    assert.matches('[true,3]', adapter:status(), 1, true)
  end)

  it('runs the objects of an operation in order, one at a time', function()
    open { head = 'local busy, order = false, {}', store = [[
      assert(not busy)
      busy = true
      order[#order + 1] = tonumber(key.hash, 16)
      neap.sleep(0)
      busy = false
      report = table.concat(order, ' ')
      return true]] }
    local op = adapter:submit('store', items(5)):wait()
    for i = 1, 5 do
      assert.equals('NEAP_OK', op:result(i))
    end
    assert.matches('"1 2 3 4 5"', adapter:status(), 1, true)
  end)

  it('serves many operations at once', function()
    open { head = 'local waiting = 0', store = [[
      waiting = waiting + 1
      while waiting < 50 do neap.sleep(0.0001) end
      return true]] }
    local ops = {}
    for n = 1, 50 do
      ops[n] = adapter:submit('store', { { key = hook.key(n), data = 'x' } })
    end
    for n = 1, 50 do
      assert.equals('NEAP_OK', ops[n]:wait():result())
    end
  end)

  describe('that is over its deadline', function()
    it('is told so where it awaits, and its objects end with NEAP_ETIMEDOUT', function()
      open { store = 'report = select(2, pcall(neap.sleep, 3600)) error(report, 0)' }
      local op = adapter:submit('store', items(3), BEGUN_MS):wait()
      for i = 1, 3 do
        assert.equals('NEAP_ETIMEDOUT', op:result(i))
      end
      assert.matches('deadline exceeded', adapter:status())
    end)

    it('keeps the results of the objects that were through', function()
      open { store = "if key.hash:match '1$' then return true end neap.sleep(3600)" }
      local op = adapter:submit('store', items(2), BEGUN_MS):wait()
      assert.same({ 'NEAP_OK', 'NEAP_ETIMEDOUT' }, { op:result(1), op:result(2) })
    end)

    it('is not called for further objects', function()
      open { head = 'local calls = 0', store = ([[
        calls = calls + 1
        report = calls
        local start = neap.now()
        while neap.now() - start < %g do end
        return true]]):format((BEGUN_MS + 20) / 1000) }
      local op = adapter:submit('store', items(2), BEGUN_MS):wait()
      assert.same({ 'NEAP_OK', 'NEAP_ETIMEDOUT' }, { op:result(1), op:result(2) })
      assert.matches('"report":1', adapter:status(), 1, true)
    end)
  end)

  describe('that is canceled', function()
    it('ends its operation with NEAP_ECANCELED', function()
      open { store = 'neap.sleep(3600) return true' }
      local op = adapter:submit('store', items(2))
      op:cancel()
      op:cancel()
      op:wait()
      assert.same({ 'NEAP_ECANCELED', 'NEAP_ECANCELED' }, { op:result(1), op:result(2) })
      op:cancel() -- too late: no effect
      assert.equals('NEAP_ENOENT', (adapter:lookup(hook.key(1))))
    end)

    it('may still return a result', function()
      open { store = 'pcall(neap.sleep, 3600) return true' }
      local op = adapter:submit('store', items(2))
      adapter:lookup(hook.key(1)) -- answered after the store's hook has begun
      op:cancel()
      op:wait()
      assert.same({ 'NEAP_OK', 'NEAP_ECANCELED' }, { op:result(1), op:result(2) })
    end)

    it('is ended if it goes on awaiting', function()
      open { store = 'while true do pcall(neap.sleep, 3600) end' }
      local op = adapter:submit('store', items(1))
      op:cancel()
      assert.equals('NEAP_ECANCELED', op:wait():result())
      assert.equals('NEAP_ENOENT', (adapter:lookup(hook.key(1))))
    end)

    it('does not disturb other operations', function()
      open { head = 'local go', store = 'while not go do neap.sleep(0.0001) end return true',
        lookup = 'go = true return true' }
      local first, second = adapter:submit('store', items(1)), adapter:submit('store', items(1))
      first:cancel()
      assert.equals('NEAP_ECANCELED', first:wait():result())
      adapter:lookup(hook.key(1))
      assert.equals('NEAP_OK', second:wait():result())
    end)
  end)

  describe('that raises', function()
    it('fails its object with NEAP_ESCRIPT and leaves the others alone', function()
      open { store = "if key.hash:match '2$' then error 'broken' end return true" }
      local op = adapter:submit('store', items(3)):wait()
      assert.same({ 'NEAP_OK', 'NEAP_ESCRIPT', 'NEAP_OK' }, { op:result(1), op:result(2), op:result(3) })
    end)

    it('is logged with file, line and traceback, once per operation', function()
      open { head = 'local function deep() error "broken" end', store = 'deep()' }
      adapter:submit('store', items(3)):wait()
      assert.is_true(adapter:logged 'store of demo/tiny@01000100@0@')
      assert.is_true(adapter:logged '/probe.lua:1: broken < stack traceback:')
      assert.is_true(adapter:logged "in function 'deep'")
      assert.is_false(adapter:logged(hook.key(2)))
    end)

    it('after it has awaited is contained as well', function()
      open { store = 'neap.sleep(0) error "late"', lookup = 'neap.sleep(0) error "late"' }
      for _ = 1, 3 do
        assert.equals('NEAP_ESCRIPT', (adapter:store(hook.key(1), 'x')))
        assert.equals('NEAP_ESCRIPT', (adapter:lookup(hook.key(1))))
      end
    end)

    it('may raise what is not a string', function()
      for _, value in ipairs { '{}', 'nil', 'true', 'print', 'buf', 'setmetatable({}, { __tostring = error })' } do
        open { store = ('error(%s)'):format(value) }
        assert.equals('NEAP_ESCRIPT', (adapter:store(hook.key(1), 'x')), value)
        assert.is_true(adapter:logged 'error object is a')
        adapter:close()
      end
      adapter = nil
    end)

    it('may have run out of stack', function()
      open { store = 'local function f() return 1 + f() end return f()' }
      assert.equals('NEAP_ESCRIPT', (adapter:store(hook.key(1), 'x')))
      assert.is_true(adapter:logged 'stack overflow')
      assert.equals('NEAP_ENOENT', (adapter:lookup(hook.key(1))))
    end)

    it('may have asked for too much memory', function()
      open { store = "return #(('x'):rep(2 ^ 20)):rep(2 ^ 12)" }
      assert.equals('NEAP_ENOMEM', (adapter:store(hook.key(1), 'x')))
      assert.equals('NEAP_ENOENT', (adapter:lookup(hook.key(1))))
    end)

    it('in a finalizer is only logged', function()
      open { head = [[
        local ffi = require 'ffi'
        ffi.cdef 'typedef struct { int x; } trap_t;'
        local trap_t = ffi.metatype('trap_t', { __gc = function() error 'metatype' end })
        local function trap() return ffi.gc(ffi.new 'int[1]', function() error 'gc' end), trap_t() end]],
        store = 'for _ = 1, 10 do trap() end collectgarbage() return true',
        lookup = 'trap() report = type(newproxy) return true' }
      for n = 1, 50 do
        assert.equals('NEAP_OK', (adapter:store(hook.key(n), 'x')))
      end
      assert.is_true(adapter:logged 'a finalizer failed: ')
      assert.equals('NEAP_OK', (adapter:lookup(hook.key(1)))) -- leaves two to the end of the VM
      assert.matches('"report":"nil"', adapter:status(), 1, true)
    end)
  end)

  describe('that yields by itself', function()
    it('is an error with a reason', function()
      open { store = 'coroutine.yield(1) return true' }
      assert.equals('NEAP_ESCRIPT', (adapter:store(hook.key(1), 'x')))
      assert.is_true(adapter:logged "coroutine.yield outside a coroutine of the script's own")
    end)

    it('may use coroutines of its own for other things', function()
      open { store = [[
        local sum = 0
        for i in coroutine.wrap(function() for i = 1, 4 do coroutine.yield(i) end end) do
          neap.sleep(0)
          sum = sum + i
        end
        report = sum
        return true]] }
      assert.equals('NEAP_OK', (adapter:store(hook.key(1), 'x')))
      assert.matches('"report":10', adapter:status(), 1, true)
    end)

    it('cannot await in them', function()
      open { store = [[
        report = { coroutine.resume(coroutine.create(function() neap.sleep(0) end)) }
        return true]] }
      assert.equals('NEAP_OK', (adapter:store(hook.key(1), 'x')))
      assert.matches("neap.sleep: cannot await inside a coroutine of the script's own", adapter:status(), 1, true)
    end)

    it('cannot await below a C function, and begins no work there', function()
      for _, await in ipairs { 'neap.sleep(0)', "neap.file.stat '/'", "neap.file.open '/dev/null'" } do
        for _, body in ipairs { 'table.sort({ 1, 2, 3 }, function(a, b) %s return a < b end)',
          "('x'):gsub('x', function() %s end)", "package.preload.x = function() %s end require 'x'" } do
          open { store = body:format(await) .. ' return true' }
          assert.equals('NEAP_ESCRIPT', (adapter:store(hook.key(1), 'x')), body)
          assert.is_true(adapter:logged 'cannot await below a C function')
          assert.equals('NEAP_ENOENT', (adapter:lookup(hook.key(1))))
          adapter:close()
        end
      end
      adapter = nil
    end)
  end)

  describe('that returns', function()
    local function results(kind, body)
      open { [kind] = body }
      local op = adapter:submit(kind, { { key = hook.key(1), data = 'abcd', bytes = 4 } }):wait()
      local result, stored = op:result(), op:stored()
      adapter:close()
      adapter = nil
      return result, stored
    end

    it('from store: true, or the bytes that were added', function()
      assert.same({ 'NEAP_OK', 4 }, { results('store', 'return true') })
      assert.same({ 'NEAP_OK', 0 }, { results('store', 'return 0') })
      assert.same({ 'NEAP_OK', 9 }, { results('store', 'return 9') })
    end)

    it('from lookup: a size, true, or a miss', function()
      assert.same({ 'NEAP_OK', 77 }, { results('lookup', 'return 77') })
      assert.same({ 'NEAP_OK', 0 }, { results('lookup', 'return true') })
      assert.same({ 'NEAP_ENOENT', 0 }, { results('lookup', 'return false') })
      assert.same({ 'NEAP_ENOENT', 0 }, { results('lookup', 'return') })
    end)

    it('from load: true or a miss', function()
      assert.equals('NEAP_OK', (results('load', 'return true')))
      assert.equals('NEAP_ENOENT', (results('load', 'return false')))
      assert.equals('NEAP_ENOENT', (results('load', 'return nil')))
    end)

    it('nil and a code: that code', function()
      assert.equals('NEAP_ENOSPC', (results('store', "return nil, 'ENOSPC', 'full'")))
      assert.equals('NEAP_ECORRUPT', (results('load', "return nil, 'NEAP_ECORRUPT', 'bad sum'")))
      assert.equals('NEAP_ENOENT', (results('lookup', "return nil, 'ENOENT'")))
      assert.equals('NEAP_EPERM', (results('load', "return nil, 'EACCES', 'not yours'")))
      assert.equals('NEAP_EIO', (results('load', "return nil, 'ECONNRESET', 'gone'")))
    end)

    it('nonsense: NEAP_ESCRIPT with what was expected', function()
      for kind, bodies in pairs {
        store = { 'return', 'return false', "return 'yes'", 'return -1', 'return 0.5', 'return 0 / 0',
          'return nil, 5' },
        lookup = { "return 'yes'", 'return -1', 'return {}' },
        load = { 'return 4', "return 'yes'", 'return buf' },
      } do
        for _, body in ipairs(bodies) do
          assert.equals('NEAP_ESCRIPT', (results(kind, body)), kind .. ': ' .. body)
        end
      end
      open { store = 'return false' }
      adapter:store(hook.key(1), 'x')
      assert.is_true(adapter:logged 'the hook returned boolean without a code, expected true, the bytes stored')
    end)
  end)

  it('may collect garbage at any moment', function()
    open { store = [[
      local copy = neap.buffer(buf:size()):copy(buf)
      for _ = 1, 5 do
        collectgarbage()
        neap.sleep(0)
        collectgarbage 'step'
      end
      assert(copy:equals(buf) and neap.key(key.text) == key)
      return true]] }
    local ops = {}
    for i = 1, 20 do
      ops[i] = adapter:submit('store', items(3))
    end
    for i = 1, 20 do
      ops[i]:wait()
      for j = 1, 3 do
        assert.equals('NEAP_OK', ops[i]:result(j))
      end
    end
  end)

  it('may be resumed by another script only to its own harm', function()
    open { head = 'local victim', store = 'victim = coroutine.running() neap.sleep(0.001) return true',
      lookup = 'report = { coroutine.resume(victim, nil) } neap.sleep(0) return true' }
    local store = adapter:submit('store', items(1))
    assert.equals('NEAP_OK', (adapter:lookup(hook.key(1))))
    assert.is_true(store:wait():result() ~= 'NEAP_EIO')
    assert.equals('NEAP_OK', (adapter:lookup(hook.key(1))))
  end)

  it('cannot be made to await outside of the operation that runs', function()
    open { head = 'local sleep', store = 'report = select(2, pcall(neap.sleep, -1)) return true' }
    adapter:store(hook.key(1), 'x')
    assert.matches('expected 0 to 86400 seconds', adapter:status())
  end)
end)

describe('the watchdog', function()
  it('reports a hook that does not come back, and its return', function()
    local dir, write, remove = driver.directory()
    local adapter = hook.open { store = ([[
      local flag
      repeat flag = io.open(%q) until flag
      flag:close()
      return true]]):format(dir .. '/flag') }
    driver.watchdog(20)
    local store = adapter:submit('store', { { key = hook.key(1), data = 'x' } })
    driver.eventually(function()
      assert.is_false(store:ended())
      return adapter:logged "script 'Probe' has been inside 'store of " and adapter:logged "/probe.lua:6' for"
    end)
    assert.matches('"is_healthy":false', adapter:status(), 1, true)
    write('flag', '')
    assert.equals('NEAP_OK', store:wait():result())
    driver.eventually(function()
      return adapter:logged "script 'Probe' is responsive again"
    end)
    driver.watchdog(5000) -- for the status hook may take longer than 20 ms, too
    driver.eventually(function()
      return adapter:status():find('"is_healthy":true', 1, true)
    end)
    remove()
    adapter:close()
  end)
end)
