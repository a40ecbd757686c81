-- SPDX-License-Identifier: MIT
--
-- Several awaiting functions in one hook, semaphores, and pools.

local driver = require 'spec.support.adapter_driver'
local ends = require 'spec.support.ends'
local hook = require 'spec.support.hook'

local function run(body, data)
  return (hook.run(ends.head '/nowhere' .. body, data))
end

describe('neap.all', function()
  it('runs functions at the same time and returns all results', function()
    assert.equals('[true,2,"a",true,0,0]', run [[
      local first, second
      local outcomes = neap.all {
        function() first = true while not second do neap.sleep(0) end return 'a', nil end,
        function() second = true while not first do neap.sleep(0) end end,
      }
      report = { outcomes[1].ok, outcomes[1].n, outcomes[1][1], outcomes[2].ok, outcomes[2].n, #neap.all {} }]])
  end)

  it('tells what one raised, and lets the others end', function()
    local json = run [[
      local late
      local outcomes = neap.all {
        function() error 'broken' end,
        function() neap.sleep(0.001) late = true end,
        function() neap.sleep(0) error { code = 7 } end,
        function() coroutine.yield() end,
      }
      local o = outcomes
      report = { o[1].ok, o[1].error:match 'broken', o[1].traceback:match 'stack traceback', late, o[2].ok,
        o[3].error.code, o[4].ok, o[4].error }]]
    assert.equals('[false,"broken","stack traceback",true,true,7,false,"neap.all: ended by the engine"]', json)
  end)

  it('lends its hook\'s buffer to the functions', function()
    assert.equals('[true,7]', run([[
      local listener = net.listen { host = '127.0.0.1', port = 0 }
      local outcomes = neap.all {
        function() local b = neap.buffer(7) listener:accept():read_exactly_into(b) return b:equals(buf) end,
        function()
          local conn = net.connect { host = '127.0.0.1', port = listener:port() }
          assert(neap.all { function() return assert(conn:write(buf)) end }[1].ok)
          return buf:size()
        end }
      report = { outcomes[1][1], outcomes[2][1] }]], 'payload'))
  end)

  it('can be used inside itself, up to a bound', function()
    local json = run [[
      local deepest, message = 0
      local function down(depth)
        deepest = math.max(deepest, depth)
        local outcome = neap.all { function() down(depth + 1) end }[1]
        message = message or outcome.error
      end
      down(0)
      report = { deepest, message }]]
    assert.equals('[256,"all: a configured bound was reached"]', json)
  end)

  it('raises for wrong arguments', function()
    for call, expected in pairs {
      ['neap.all()'] = 'got a nil, expected a table of functions',
      ["neap.all { 'x' }"] = 'item 1 is a string, expected a function',
      ['local f = {} for i = 1, 65 do f[i] = print end neap.all(f)'] = 'at most 64 functions',
      ['coroutine.wrap(neap.all) { print }'] = 'cannot await inside a coroutine',
    } do
      assert.matches(expected, run(('report = select(2, pcall(function() %s end))'):format(call)))
    end
  end)

  it('ends with its operation, when all functions have ended', function()
    for _, deadline in ipairs { 0, 300 } do
      local adapter = hook.open { head = 'local waiting', lookup = 'return waiting', store = [[
        local ended = 0
        local function child(f)
          return function()
            local ok, message = pcall(f)
            for _ = 1, 3 do pcall(neap.sleep, 1) end
            ended = ended + 1
            error(message, 0)
          end
        end
        waiting = true
        local ok, message = pcall(neap.all, { child(function() neap.sleep(3600) end),
          child(function() neap.all { child(function() neap.semaphore(0):acquire() end) } end),
          function() while true do pcall(neap.sleep, 3600) end end })
        report = { ok, message, ended, buf:size() }
        error(message, 0)]] }
      local op = adapter:submit('store', { { key = hook.key(1), data = 'x' } }, deadline)
      if deadline == 0 then
        driver.eventually(function()
          return adapter:lookup(hook.key(1)) == 'NEAP_OK'
        end)
        op:cancel()
      end
      assert.equals(deadline == 0 and 'NEAP_ECANCELED' or 'NEAP_ETIMEDOUT', op:wait():result())
      assert.matches(('"report":[false,"neap: %s",3,1]'):format(deadline == 0 and 'operation canceled'
        or 'deadline exceeded'), adapter:status(), 1, true)
      adapter:close()
    end
  end)
end)

describe('neap.semaphore', function()
  it('lets so many in at a time, in the order of their asking', function()
    assert.equals('[2,"123456"]', run [[
      local s, inside, most, order, functions = neap.semaphore(2), 0, 0, '', {}
      for i = 1, 6 do
        functions[i] = function()
          s:acquire()
          inside, order = inside + 1, order .. i
          most = math.max(most, inside)
          neap.sleep(0)
          inside = inside - 1
          s:release()
        end
      end
      neap.all(functions)
      report = { most, order }]])
  end)

  it('is waited for as long as one likes', function()
    assert.equals('["ETIMEDOUT",true]', run [[
      local s = neap.semaphore(0)
      report = { (select(2, s:acquire(0.002))) }
      s:release()
      report[2] = s:acquire(0.002)]])
  end)

  it('does not lose what was granted to a canceled operation', function()
    local adapter = hook.open { head = [[
      local s, waiting = require 'neap'.semaphore(0) ]], store = [[
      waiting = true
      s:acquire()
      return true]], lookup = [[
      if waiting then s:release() waiting = nil return true end
      return false]], load = 'return s:acquire() and true' }
    for _ = 1, 20 do
      local op = adapter:submit('store', { { key = hook.key(1), data = 'x' } })
      driver.eventually(function()
        return adapter:lookup(hook.key(1)) == 'NEAP_OK'
      end)
      op:cancel()
      if op:wait():result() == 'NEAP_ECANCELED' then
        assert.equals('NEAP_OK', (adapter:load(hook.key(1), 1)))
      end
    end
    adapter:close()
  end)
end)

describe('neap.pool', function()
  local POOL = [[
    local opened, closed = 0, 0
    local function open()
      opened = opened + 1
      return { number = opened, closed = false, close = function(c) c.closed = true closed = closed + 1 end }
    end
    local function number(conn) return conn.number end ]]

  it('uses one again, and opens no more than its size', function()
    assert.equals('[1,1,2,4]', run(POOL .. [[
      local pool = neap.pool { open = open, size = 2 }
      report = { pool:with(number), pool:with(number) }
      local busy, most, functions = 0, 0, {}
      for i = 1, 10 do
        functions[i] = function()
          return pool:with(function()
            busy = busy + 1
            most = math.max(most, busy)
            neap.sleep(0.001)
            busy = busy - 1
            return 2
          end)
        end
      end
      local outcomes = neap.all(functions)
      report[3], report[4] = most, opened + outcomes[10][1] ]]))
  end)

  it('drops one whose user raised or failed, or that was closed', function()
    assert.equals('["oops",2,"EIO",3,4]', run(POOL .. [[
      local pool = neap.pool { open = open, size = 1 }
      report = { select(2, pcall(pool.with, pool, function() error('oops', 0) end)), pool:with(number) }
      report[3] = select(2, pool:with(function() return nil, 'EIO', 'bad' end))
      report[4] = pool:with(number)
      pool:with(function(c) c:close() end)
      report[5] = pool:with(number)]]))
  end)

  it('drops one that fails its check or lay idle for too long', function()
    assert.equals('[1,2,3,2]', run(POOL .. [[
      local good = true
      local pool = neap.pool { open = open, idle = 0.01, check = function() return good end }
      report = { pool:with(number) }
      good = false
      report[2] = pool:with(number)
      good = true
      neap.sleep(0.02)
      report[3] = pool:with(number)
      report[4] = closed]]))
  end)

  it('notices a peer that has closed meanwhile', function()
    assert.equals('["one","two"]', run [[
      local listener = net.listen { host = '127.0.0.1', port = 0 }
      local function serve(text) local c = listener:accept() c:write(text) c:close() end
      local got = {}
      neap.all { function() serve 'one\n' serve 'two\n' end, function()
        local target = { host = '127.0.0.1', port = listener:port() }
        local pool = neap.pool { open = function() return net.connect(target) end }
        for i = 1, 2 do
          got[i] = pool:with(function(c) return c:read_until '\n' end)
          neap.sleep(0.001)
        end
      end }
      report = got]])
  end)

  it('says so when it cannot open one, or all are busy', function()
    assert.equals('["ECONNREFUSED","ETIMEDOUT","ECLOSED",1]', run(POOL .. [[
      local pool = neap.pool { open = function() return nil, 'ECONNREFUSED', 'no' end, size = 1 }
      for _ = 1, 3 do report = { (select(2, pool:with(number))) } end
      pool = neap.pool { open = open, size = 1, wait = 0.005 }
      pool:with(function()
        report[2] = select(2, pool:with(number))
        pool:close()
        return true
      end)
      report[3] = select(2, pool:with(number))
      report[4] = closed]]))
  end)

  it('gives up its place when a waiting operation is canceled', function()
    local adapter = hook.open { head = [[
      local neap = require 'neap'
      local waiting
      local pool = neap.pool { size = 1, open = function() return { close = function() end } end } ]], store = [[
      return pool:with(function() waiting = true neap.sleep(3600) return true end)]], lookup = 'return waiting',
      load = 'waiting = nil return pool:with(function() return true end)' }
    for _ = 1, 5 do
      local op = adapter:submit('store', { { key = hook.key(1), data = 'x' } })
      driver.eventually(function()
        return adapter:lookup(hook.key(1)) == 'NEAP_OK'
      end)
      op:cancel()
      assert.equals('NEAP_ECANCELED', op:wait():result())
      assert.equals('NEAP_OK', (adapter:load(hook.key(1), 1)))
    end
    adapter:close()
  end)

  it('raises for wrong options', function()
    for options, expected in pairs {
      ['nil'] = 'got a nil, expected a table of options',
      ['{}'] = "'open' is missing",
      ['{ open = print, size = 0 }'] = 'size is 0, expected a whole number from 1 to 10000',
      ["{ open = 'x' }"] = 'open is a string, expected a function',
      ['{ open = print, max = 4 }'] = "unknown option 'max'",
    } do
      assert.matches(expected, run(('report = select(2, pcall(neap.pool, %s))'):format(options)), 1, true)
    end
  end)
end)
