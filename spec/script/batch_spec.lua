-- SPDX-License-Identifier: MIT
--
-- Batch forms of hooks, several hooks of one operation at once, declarations, and changed parameters.

local driver = require 'spec.support.adapter_driver'

local HOOKS = [[
  store = function() error 'the single form was called' end, lookup = function() error 'the single form was called' end,
  load = function() error 'the single form was called' end, delete = function() error 'the single form was called' end,
]]

describe('an adapter', function()
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

  local function module(fields, head)
    return write('store.lua', ("local neap = require 'neap'\n%s\nreturn { Store = neap.adapter {\n%s } }")
      :format(head or '', fields))
  end

  local function open(fields, head)
    local message
    adapter, message = driver.open_lua(module(fields, head), 'Store', '{}')
    assert(adapter, message)
    return adapter
  end

  local function items(count, bytes)
    local list = {}
    for n = 1, count do
      list[n] = { key = driver.key(n), data = ('data%d'):format(n), bytes = bytes }
    end
    return list
  end

  local function results(kind, list)
    local op, all = adapter:submit(kind, list):wait(), {}
    for i = 1, #list do
      all[i] = op:result(i):gsub('^NEAP_', '')
    end
    return table.concat(all, ' '), op
  end

  describe('with batch forms', function()
    it('is called once for all objects of an operation', function()
      open([[
        store_batch = function(_, keys, buffers)
          calls = calls + 1
          assert(#keys == #buffers)
          local out = {}
          for i, key in ipairs(keys) do
            if kept[key.text] then
              out[i] = 0
            else
              kept[key.text] = neap.buffer(buffers[i]:size()):copy(buffers[i])
              out[i] = true
            end
          end
          neap.sleep(0)
          return out
        end,
        load_batch = function(_, keys, buffers)
          calls = calls + 1
          local out = {}
          for i, key in ipairs(keys) do
            out[i] = kept[key.text] ~= nil
            if out[i] then buffers[i]:copy(kept[key.text]) end
          end
          return out
        end,
        lookup_batch = function(_, keys)
          calls = calls + 1
          local out = {}
          for i, key in ipairs(keys) do out[i] = kept[key.text] and kept[key.text]:size() or false end
          return out
        end,
        delete_batch = function(_, keys)
          calls = calls + 1
          local out = {}
          for i, key in ipairs(keys) do out[i] = kept[key.text] ~= nil kept[key.text] = nil end
          return out
        end,
        status = function() return { calls = calls } end, ]], 'local kept, calls = {}, 0')
      assert.is_true(adapter:can 'delete')
      assert.equals('OK OK OK', (results('store', items(3))))
      local again, op = results('store', items(4))
      assert.equals('OK OK OK OK', again)
      assert.same({ 0, 5 }, { op:stored(1), op:stored(4) })
      local found, lookup = results('lookup', items(5))
      assert.equals('OK OK OK OK ENOENT', found)
      assert.equals(5, lookup:stored(2))
      local loaded, load = results('load', items(5, 5))
      assert.equals('OK OK OK OK ENOENT', loaded)
      assert.same({ 'data1', 'data4' }, { load:data(1), load:data(4) })
      assert.equals('OK OK ENOENT', (results('delete', { items(1)[1], items(2)[2], items(9)[9] })))
      assert.matches('"calls":5', adapter:status(), 1, true)
    end)

    it('is preferred to its single forms', function()
      open(HOOKS .. 'lookup_batch = function(_, keys) return { 7, true } end')
      local text, op = results('lookup', items(2))
      assert.equals('OK OK', text)
      assert.equals(7, op:stored(1))
      assert.equals('ESCRIPT', (results('load', items(1, 4))))
    end)

    it('may name a code for each object, or one for all', function()
      open [[
        store_batch = function() return { true, 'ENOSPC', 'ECONNRESET', 3 } end,
        load_batch = function() return nil, 'ETIMEDOUT', 'gone away' end,
        lookup_batch = function() return { 'ENOENT', 'EACCES', false } end, ]]
      assert.equals('OK ENOSPC EIO OK', (results('store', items(4))))
      assert.is_true(adapter:logged('store_batch of ' .. driver.key(2) .. ' failed: ENOSPC'))
      assert.equals('ETIMEDOUT ETIMEDOUT', (results('load', items(2, 4))))
      assert.is_true(adapter:logged 'failed: ETIMEDOUT: gone away')
      assert.equals('ENOENT EPERM ENOENT', (results('lookup', items(3))))
    end)

    it('that answers wrongly fails what has no valid result, and the log names file and line', function()
      for returned, expected in pairs {
        ['{ true, nil, true }'] = { 'OK EIO OK', 'no result for this object' },
        ['{ true }'] = { 'OK EIO EIO', 'no result for this object' },
        ['{ true, {}, true }'] = { 'OK ESCRIPT OK', 'table for this object, expected true, the' },
        ['{ true, -1, 0.5 }'] = { 'OK ESCRIPT ESCRIPT', 'number for this object, expected true, the bytes stored' },
        ['{ true, true, false }'] = { 'OK OK ESCRIPT', 'boolean for this object, expected true, the bytes stored' },
        ['{ true, true, true, true }'] = { 'ESCRIPT ESCRIPT ESCRIPT', '4 results for 3 objects' },
        ['true'] = { 'ESCRIPT ESCRIPT ESCRIPT', 'boolean, expected an array of results' },
        [''] = { 'ESCRIPT ESCRIPT ESCRIPT', 'nil without a code, expected an array of results' },
        ['nil, {}'] = { 'ESCRIPT ESCRIPT ESCRIPT', 'as the second result' },
      } do
        open(HOOKS .. ('store_batch = function() return %s end,'):format(returned))
        assert.equals(expected[1], (results('store', items(3))), returned)
        assert.is_true(adapter:logged '/store.lua:6: the hook returned ', returned)
        assert.is_true(adapter:logged(expected[2]), returned)
        adapter:close()
        adapter = nil
      end
    end)

    it('that raises fails all objects of the operation, and the adapter goes on', function()
      open(HOOKS .. "store_batch = function() error 'broken' end, lookup_batch = function() return { true } end")
      assert.equals('ESCRIPT ESCRIPT', (results('store', items(2))))
      assert.is_true(adapter:logged '/store.lua:6: broken < stack traceback:')
      assert.equals('OK', (results('lookup', items(1))))
    end)

    it('loses all its buffers when the call ends', function()
      open(HOOKS .. [[
        store_batch = function(_, _, buffers) kept = buffers return { true, true } end,
        lookup_batch = function()
          report = { select(2, pcall(kept[1].size, kept[1])), select(2, pcall(kept[2].size, kept[2])) }
          return { true }
        end,
        status = function() return { report = report } end]], 'local kept, report')
      assert.equals('OK OK', (results('store', items(2))))
      assert.equals('OK', (results('lookup', items(1))))
      local _, count = adapter:status():gsub('buffer no longer valid', '')
      assert.equals(2, count)
    end)

    it('that is canceled or overdue ends all objects', function()
      open(HOOKS .. 'store_batch = function() neap.sleep(3600) end')
      local op = adapter:submit('store', items(2))
      op:cancel()
      op:wait()
      assert.same({ 'NEAP_ECANCELED', 'NEAP_ECANCELED' }, { op:result(1), op:result(2) })
      op = adapter:submit('store', items(2), 20):wait()
      assert.same({ 'NEAP_ETIMEDOUT', 'NEAP_ETIMEDOUT' }, { op:result(1), op:result(2) })
    end)
  end)

  describe('without batch forms', function()
    local HEAD = 'local busy, most, waiting = 0, 0, 0'
    local BODY = [[
      store = function()
        busy = busy + 1
        most = math.max(most, busy)
        for _ = 1, 5 do neap.sleep(0) end
        busy = busy - 1
        return true
      end,
      lookup = function() return false end, load = function() return false end,
      status = function() return { most = most } end, ]]

    it('has as many hooks of an operation running at once as it declares', function()
      open(BODY .. 'concurrency = 4', HEAD)
      assert.equals(('OK '):rep(16):sub(1, -2), (results('store', items(16))))
      assert.matches('"most":4', adapter:status(), 1, true)
    end)

    it('shares its declared concurrency among its operations, and each of them has one at least', function()
      open([[concurrency = 3, lookup = function() return false end, load = function() return true end,
        store = function()
          waiting = waiting + 1
          while waiting < 3 do neap.sleep(0.0001) end
          return true
        end]], HEAD)
      local ops = {}
      for n = 1, 3 do
        ops[n] = adapter:submit('store', { items(n)[n] })
      end
      for n = 1, 3 do
        assert.equals('NEAP_OK', ops[n]:wait():result())
      end
      assert.equals(('OK '):rep(9):sub(1, -2), (results('store', items(9))))
    end)

    it('cancels all hooks of an operation', function()
      open('concurrency = 4, lookup = function() end, load = function() end, store = function() neap.sleep(3600) end')
      local op = adapter:submit('store', items(6))
      adapter:lookup(driver.key(1)) -- answered when some of the hooks sleep
      op:cancel()
      op:wait()
      for i = 1, 6 do
        assert.equals('NEAP_ECANCELED', op:result(i))
      end
    end)

    it('keeps results apart', function()
      open([[concurrency = 8, lookup = function() end, load = function() end,
        store = function(_, key, buffer)
          neap.sleep(0)
          local n = tonumber(key.hash, 16)
          assert(buffer:peek(0, buffer:size()) == 'data' .. n)
          if n % 3 == 0 then error 'third' end
          return n % 3 == 1 and true or nil, 'ENOSPC', 'full'
        end]])
      assert.equals('OK ENOSPC ESCRIPT OK ENOSPC ESCRIPT OK', (results('store', items(7))))
    end)
  end)

  describe('declares', function()
    it('what the framework is to do for it', function()
      open(HOOKS .. 'concurrency = 8, batch = 64, deadline = 5, retries = 2, backoff = 0.05')
      assert.same({ concurrency = 8, batch = 64, deadline_ms = 5000, retries = 2, backoff_ms = 50 }, adapter:traits())
      adapter:close()
      open(HOOKS .. 'deadline = 0.0001')
      assert.same({ concurrency = 0, batch = 0, deadline_ms = 1, retries = 0, backoff_ms = 0 }, adapter:traits())
    end)

    it('nothing wrong: the message names the line of the declaration', function()
      for field, message in pairs {
        ['concurrency = 0'] = "'concurrency' is 0, expected a whole number from 1 to 4096",
        ['concurrency = 1.5'] = "'concurrency' is 1.5, expected a whole number",
        ['batch = true'] = "'batch' is a boolean, expected a whole number from 1 to 65536",
        ['deadline = 0'] = "'deadline' is 0, expected a number above 0, at most 86400 seconds",
        ['deadline = 0 / 0'] = "'deadline' is nan, expected a number above 0",
        ['deadline = 1e9'] = "'deadline' is 1000000000, expected a number above 0, at most 86400 seconds",
        ["retries = '3'"] = "'retries' is a string, expected a whole number from 0 to 100",
        ['retries = -1'] = "'retries' is -1, expected",
        ['backoff = function() end'] = "'backoff' is a function, expected a number from 0 to 3600 seconds",
        ['store_batch = 5'] = "'store_batch' is a number, expected a function",
      } do
        local handle, refusal = driver.open_lua(module(HOOKS .. field), 'Store', '{}')
        assert.is_nil(handle)
        assert.matches(dir .. '/store.lua:3: neap.adapter: ' .. message, refusal, 1, true)
      end
    end)

    it('a batch form or a single form of each required hook', function()
      local handle, refusal = driver.open_lua(module 'store_batch = print, lookup_batch = print', 'Store', '{}')
      assert.is_nil(handle)
      assert.matches("the hook 'load' is missing", refusal, 1, true)
    end)
  end)

  describe('whose parameters change', function()
    it('is told, and may await before it takes them', function()
      open(HOOKS .. [[
        open = function(self, params) self.params = params end,
        reconfigure = function(self, params) neap.sleep(0) self.params = params end,
        status = function(self) return self.params end]])
      assert.equals('{"is_healthy":true}', adapter:status())
      assert.equals('NEAP_OK', (adapter:reconfigure '{"size": 3}'))
      assert.equals('{"size":3,"is_healthy":true}', adapter:status())
    end)

    it('may refuse or fail, with a reason', function()
      open(HOOKS .. [[
        reconfigure = function(_, params)
          if params.raise then error 'broken' end
          return nil, 'EINVAL', 'too small'
        end]])
      assert.same({ 'NEAP_EINVAL', 'Store: reconfigure failed: EINVAL: too small' }, { adapter:reconfigure '{}' })
      local result, message = adapter:reconfigure '{"raise": true}'
      assert.equals('NEAP_ESCRIPT', result)
      assert.matches('reconfigure failed: .*/store.lua:%d+: broken$', message)
      assert.same({ 'NEAP_EINVAL', 'Store: the parameters are not a JSON object' }, { adapter:reconfigure '[' })
    end)

    it('goes on with its operations meanwhile', function()
      open [[
        store = function() while not changed do neap.sleep(0.0001) end return true end,
        lookup = function() return true end, load = function() return true end,
        reconfigure = function() changed = true end]]
      local op = adapter:submit('store', items(1))
      assert.equals('NEAP_OK', (adapter:reconfigure '{}'))
      assert.equals('NEAP_OK', op:wait():result())
    end)

    it('has no such function without the hook', function()
      open(HOOKS)
      assert.equals('NEAP_ENOTSUP', (adapter:reconfigure '{}'))
    end)
  end)
end)
