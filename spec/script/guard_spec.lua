-- SPDX-License-Identifier: MIT
--
-- Scripts that take too much: memory, and time that they do not give back.

local driver = require 'spec.support.adapter_driver'

local MIB = 2 ^ 20

describe('a script', function()
  local adapter, dir, write, remove

  before_each(function()
    dir, write, remove = driver.directory()
  end)

  after_each(function()
    if adapter then
      adapter:close()
      adapter = nil
    end
    remove()
  end)

  local function module(fields, store, head)
    return write('store.lua', ([[
      local neap = require 'neap'
      local report
      %s
      return { Store = neap.adapter { %s,
        store = function(self, key, buffer) %s end,
        lookup = function() return true end, load = function() return true end,
        status = function() return { report = report } end } }]]):format(head or '', fields, store))
  end

  local function open(fields, store, head)
    local message
    adapter, message = driver.open_lua(module(fields, store, head), 'Store', '{}')
    assert(adapter, message)
    return adapter
  end

  local function store(deadline_ms)
    return adapter:submit('store', { { key = driver.key(1), data = 'x' } }, deadline_ms):wait():result()
  end

  -- In time: the status of a busy machine may be an older one.
  local function tells(text)
    driver.eventually(function()
      return adapter:status():find(text, 1, true)
    end)
  end

  local function goes_on()
    assert.equals('NEAP_OK', (adapter:lookup(driver.key(1))))
    tells '"is_healthy":true'
  end

  describe('that allocates without end', function()
    local hungry = {
      tables = 'local t = {} while true do t[#t + 1] = {} end',
      strings = 'local s = "x" while true do s = s .. s end',
      ['one array'] = 'local t = {} local n = 0 while true do n = n + 1 t[n] = n end',
      closures = 'local t while true do local last = t t = function() return last end end',
      cdata = "local ffi, t = require 'ffi', {} while true do t[#t + 1] = ffi.new 'char[1024]' end",
      coroutines = 'local t = {} while true do t[#t + 1] = coroutine.create(print) end',
    }
    for _, mode in ipairs { 'guarded = false', 'guarded = true, slice = 60' } do
      for what, body in pairs(hungry) do
        it(('in %s ends with NEAP_ENOMEM and the adapter goes on (%s)'):format(what, mode:match '%a+ = %a+'), function()
          open(('memory = %d, %s'):format(6 * MIB, mode), body)
          for _ = 1, 3 do
            assert.equals('NEAP_ENOMEM', store())
            goes_on()
          end
          assert.is_true(adapter:logged 'not enough memory')
        end)
      end
    end

    it('is told where it was', function()
      open(('memory = %d'):format(6 * MIB), 'local t = {} while true do t[#t + 1] = {} end')
      assert.equals('NEAP_ENOMEM', store())
      assert.is_true(adapter:logged '/store.lua:')
      assert.is_true(adapter:logged 'stack traceback:')
    end)

    it('and keeps it is unhealthy, answers, and can be closed', function()
      open(('memory = %d'):format(6 * MIB), 'self.t = self.t or {} while true do self.t[#self.t + 1] = {} end')
      for _ = 1, 3 do
        assert.equals('NEAP_ENOMEM', store())
      end
      tells '"is_healthy":false'
      assert.not_equals('NEAP_EIO', (adapter:lookup(driver.key(1))))
    end)

    it('in buffers is refused by neap.buffer', function()
      open(('memory = %d'):format(6 * MIB), [[
        local t = {}
        while true do
          local buffer, code, message = neap.buffer(2 ^ 20)
          if not buffer then return nil, code, message end
          t[#t + 1] = buffer
        end]])
      assert.equals('NEAP_ENOMEM', store())
      goes_on()
      assert.is_true(adapter:logged 'no memory for a buffer of 1048576 bytes')
    end)

    it('may read again what there was no memory for', function()
      open(('memory = %d'):format(6 * MIB), [[
        local listener = neap.net.listen { host = '127.0.0.1', port = 0 }
        local conn = assert(neap.net.connect { host = '127.0.0.1', port = listener:port() })
        local peer = listener:accept()
        assert(peer:write(neap.buffer(30000):fill(65)))
        local t, head = {}, ('x'):rep(4000)
        for i = 1, 5000 do
          if not pcall(function() t[i] = head .. i end) then break end
        end
        neap.sleep(0) -- a new turn of the loop: what is there is read at once
        local ok, message = pcall(conn.read_exactly, conn, 30000)
        t = nil
        collectgarbage()
        local again, text = pcall(conn.read_exactly, conn, 30000)
        report = { ok, message, again and text == ('A'):rep(30000) or text }
        return true]])
      driver.eventually(function() return store() == 'NEAP_OK' end) -- a slow machine may read in a later turn, and fail
      assert.matches('[false,"not enough memory",true]', adapter:status(), 1, true)
    end)

    it('while its module is loaded is refused', function()
      local path = module('memory = ' .. 2 ^ 25, 'return true', 'local s = "x" while true do s = s .. s end')
      local handle, message = driver.open_lua(path, 'Store', '{}')
      assert.is_nil(handle)
      assert.matches('NEAP_ENOMEM: ', message)
    end)

    it('may make any amount of garbage', function()
      open(('memory = %d'):format(6 * MIB), [[
        for i = 1, 1e5 do local t = { i, tostring(i) } report = #t end
        return true]])
      for _ = 1, 5 do
        assert.equals('NEAP_OK', store())
      end
      goes_on()
    end)
  end)

  describe('that is guarded and runs without end', function()
    for what, body in pairs {
      ['in a loop'] = 'while true do end',
      ['in a loop that catches errors'] = 'while true do pcall(function() while true do end end) end',
      ['in a loop that catches errors twice'] = [[
        while true do pcall(function() pcall(function() while true do end end) while true do end end) end]],
      ['in a coroutine of its own'] = 'coroutine.wrap(function() while true do end end)()',
      ['in code that it loads'] = "loadstring 'while true do end'()",
      ['in recursion'] = 'local function f() f() f() end while true do pcall(f) end',
      ['in a comparator'] = 'table.sort({ 1, 2, 3 }, function() while true do end end)',
      ['after it awaited'] = 'neap.sleep(0) while true do end',
    } do
      it(what .. ' is stopped where it is, with a traceback', function()
        open('guarded = true, slice = 0.05', body)
        for _ = 1, 2 do
          assert.equals('NEAP_ESCRIPT', store())
          goes_on()
        end
        assert.is_true(adapter:logged 'a guarded script may run for 50 ms without awaiting')
        assert.is_true(adapter:logged 'stack traceback:')
      end)
    end

    it('is stopped by the deadline of its operation, and may clean up', function()
      open('guarded = true, slice = 60', [[
        local ok, message = pcall(function() while true do end end)
        report = { ok, message }
        error(message, 0)]])
      assert.equals('NEAP_ETIMEDOUT', store(300))
      tells 'deadline exceeded'
      goes_on()
    end)

    it('in status is stopped as well', function()
      open("guarded = true, slice = 0.05, open = function(self) self.status = nil end", 'return true')
      adapter:close()
      local path = write('store.lua', [[return { Store = require 'neap'.adapter { guarded = true, slice = 0.05,
        store = print, load = print, lookup = function() return true end, status = function() while true do end end } }
        ]])
      adapter = assert(driver.open_lua(path, 'Store', '{}'))
      driver.eventually(function()
        adapter:status()
        return adapter:logged 'may run for 50 ms without awaiting'
      end)
      goes_on()
    end)

    it('is not stopped for what others did meanwhile', function()
      open('guarded = true, slice = 0.1', [[
        local ffi = require 'ffi'
        ffi.cdef 'int poll(void *fds, unsigned long count, int timeout_ms);'
        ffi.C.poll(nil, 0, 200) -- as if this thread had not been given a processor for so long
        for _ = 1, 10000 do report = (report or 0) + 1 end
        return true]])
      assert.equals('NEAP_OK', store())
    end)

    it('and mostly sleeps in C is stopped after a while', function()
      open('guarded = true, slice = 0.02', [[
        local ffi = require 'ffi'
        ffi.cdef 'int poll(void *fds, unsigned long count, int timeout_ms);'
        while true do ffi.C.poll(nil, 0, 1) for _ = 1, 100 do report = (report or 0) + 1 end end]])
      assert.equals('NEAP_ESCRIPT', store())
      assert.is_true(adapter:logged 'a guarded script may run for 20 ms without awaiting')
    end)

    it('may run for longer if it awaits', function()
      open('guarded = true, slice = 0.05', [[
        local start = neap.now()
        while neap.now() - start < 0.2 do
          for _ = 1, 1000 do report = (report or 0) + 1 end
          neap.sleep(0)
        end
        return true]])
      assert.equals('NEAP_OK', store())
      goes_on()
    end)

    it('is not compiled, and a trusted one is', function()
      local status = 'report = { (jit.status()) } return true'
      open('guarded = true', 'assert(not jit.on and not debug.sethook) ' .. status)
      assert.equals('NEAP_OK', store())
      tells '"report":[false]'
      adapter:close()
      open('guarded = false', status)
      assert.equals('NEAP_OK', store())
      tells '"report":[true]'
    end)
  end)

  if os.getenv 'NEAP_SLOW' then
    it('that is loaded and runs without end is refused', function()
      local handle, message = driver.open_lua(module('guarded = false', 'return true', 'while true do end'), 'Store')
      assert.is_nil(handle)
      assert.matches('NEAP_ESCRIPT: .*store.lua:3: stopped: a guarded script may run for 10000 ms', message)
    end)
  end

  it('that is trusted, runs without end and comes to an await is stopped there', function()
    open('guarded = false', [[
      local start = neap.now()
      while neap.now() - start < 0.05 do end
      neap.sleep(0)]])
    assert.equals('NEAP_ETIMEDOUT', store(10))
    goes_on()
  end)

  it('declares nothing wrong', function()
    for field, message in pairs {
      ['memory = 5'] = "'memory' is 5, expected a whole number from 4194304 to 70368744177664 bytes",
      ['guarded = 1'] = "'guarded' is a number, expected a boolean",
      ['slice = 0'] = "'slice' is 0, expected a number above 0, at most 3600 seconds",
    } do
      local handle, refusal = driver.open_lua(module(field, 'return true'), 'Store', '{}')
      assert.is_nil(handle)
      assert.matches(dir .. '/store.lua:', refusal, 1, true)
      assert.matches(message, refusal, 1, true)
    end
  end)
end)
