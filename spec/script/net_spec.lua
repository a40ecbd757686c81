-- SPDX-License-Identifier: MIT
--
-- Sockets as scripts use them. Server and client are functions of one hook, so both ends run in the engine's own VM;
-- a server that misbehaves does so by what it writes, and when it closes.

local driver = require 'spec.support.adapter_driver'
local ends = require 'spec.support.ends'
local hook = require 'spec.support.hook'

describe('a connection', function()
  local dir, _, remove, head

  before_each(function()
    dir, _, remove = driver.directory()
    head = ends.head(dir)
  end)

  after_each(function()
    os.execute(('rm -rf -- %s/sub'):format(dir))
    remove()
  end)

  local function run(body, data)
    return (hook.run(head .. body, data))
  end

  it('moves strings and buffers over TCP', function()
    assert.matches('^%[true,"127.0.0.1:%d+"%]$', run('report = { tcp(echo, ask(buf)) }', ('abc'):rep(1000000)))
  end)

  it('moves strings and buffers over IPv6', function()
    local json = run([[
      local listener, code = net.listen { host = '::1', port = 0 }
      report = { code }
      if listener then
        listener:close()
        report = { pair({ host = '::1', port = 0 }, { host = '::1' }, echo, ask(buf)) }
      end]], 'abcdefghijklmnop')
    assert.is_truthy(json:match '^%[true,"%[::1%]:%d+"%]$' or json:match 'EADDRNOTAVAIL' or json:match 'EAFNOSUPPORT')
  end)

  it('moves strings and buffers over a unix socket', function()
    assert.equals(('[true,"%s/sub"]'):format(dir), run(
      "report = { pair({ path = dir .. '/sub' }, { path = dir .. '/sub' }, echo, ask(buf)) }", ('abc'):rep(1000000)))
    assert.is_nil(io.open(dir .. '/sub'))
  end)

  it('puts a reply together from pieces of one byte', function()
    assert.equals('["+OK",4,"abcdef","x\\r\\ny"]', run [[
      local got
      tcp(function(conn)
        for byte in ('+OK\r\n4\r\nabcdefx\r\ny'):gmatch '.' do
          assert(conn:write(byte))
          neap.sleep(0)
        end
      end, function(conn)
        local b = neap.buffer(6)
        local first, second = conn:read_until '\r\n', tonumber(conn:read_until '\r\n')
        assert(conn:read_exactly_into(b))
        got = { first, second, b:peek(0, 6), conn:read_exactly(4) }
      end)
      report = got]])
  end)

  it('keeps what came with a reply for the next one', function()
    assert.equals('["one","two",true,"three",""]', run [[
      local got = {}
      tcp(function(conn)
        local b = neap.buffer(100000):fill(120)
        assert(conn:write('one\ntwo\n', b, 'three\n\n'))
      end, function(conn)
        got[1], got[2] = conn:read_until '\n', conn:read_until '\n'
        local b = neap.buffer(100000)
        assert(conn:read_exactly_into(b))
        got[3] = b:equals(neap.buffer(100000):fill(120))
        got[4], got[5] = conn:read_until '\n', conn:read_until '\n'
      end)
      report = got]])
  end)

  it('finds a delimiter that comes in two parts, and refuses what has none', function()
    assert.equals('["a\\r\\rb\\n","EMSGSIZE",true]', run [[
      local got = {}
      tcp(function(conn)
        for _, piece in ipairs { 'a\r', '\rb\n\r', '\n', ('y'):rep(50) } do
          assert(conn:write(piece))
          neap.sleep(0.001)
        end
        conn:read_exactly(1)
      end, function(conn)
        got[1] = conn:read_until '\r\n'
        got[2] = select(2, conn:read_until('\r\n', 20))
        got[3] = conn.closed
      end)
      report = got]])
  end)

  it('reads strings of up to 64 KiB', function()
    assert.equals('[65536,65535,""]', run [[
      local got = {}
      tcp(function(conn)
        assert(conn:write(('y'):rep(65536), ('z'):rep(65535), '\n'))
      end, function(conn)
        got = { #conn:read_exactly(65536), #conn:read_until('\n', 65536), conn:read_exactly(0) }
      end)
      report = got]])
  end)

  it('tells of a peer that closes in the middle of a reply', function()
    local json = run [[
      local got = {}
      for i, read in ipairs {
        function(conn) return conn:read_exactly_into(neap.buffer(10)) end,
        function(conn) return conn:read_exactly(10) end,
        function(conn) return conn:read_until '\n' end,
      } do
        tcp(function(conn) conn:write 'abc' end, function(conn) got[i] = why(read(conn)) end)
      end
      report = got]]
    assert.matches('["nil","EOF","read: the peer closed the connection after 3 of 10 bytes"]', json, 1, true)
    assert.matches('after 3 bytes without the delimiter', json, 1, true)
  end)

  it('ends one direction and reads on', function()
    assert.equals('["EOF","all"]', run [[
      local got = {}
      tcp(function(conn)
        got[1] = select(2, conn:read_exactly(1))
        assert(conn:write 'all')
      end, function(conn)
        assert(conn:shutdown())
        got[2] = conn:read_exactly(3)
      end)
      report = got]])
  end)

  it('fails to be made with a reason', function()
    local json = run [[
      local listener = net.listen { host = '127.0.0.1', port = 0 }
      local port = listener:port()
      listener:close()
      report = { why(net.connect { host = '127.0.0.1', port = port }), why(net.connect { path = dir .. '/sub' }),
        why(net.connect { path = ('x'):rep(200) }), why(net.connect { host = 'no-such-host.invalid', port = 1 }),
        why(net.listen { path = dir .. '/none/sub' }), why(net.listen { host = 'localhost', port = 1 }) }]]
    for _, expected in ipairs { '"ECONNREFUSED","connect 127.0.0.1:', '"ENOENT","connect ' .. dir, '"ENAMETOOLONG"',
      '"EAI_', 'connect no-such-host.invalid:1: ', '"ENOENT","listen ', '"EINVAL","listen localhost:1' } do
      assert.matches(expected, json, 1, true)
    end
  end)

  it('tries every address that a name has', function()
    local json = run([[
      report = { #net.resolve 'localhost' >= 1, net.resolve('127.0.0.1')[1], select(2, net.resolve 'no.invalid') }
      report[4] = pair({ host = '127.0.0.1', port = 0 }, { host = 'localhost' }, echo, ask(buf))]], 'abcdefghijklmnop')
    assert.matches('^%[true,"127.0.0.1","EAI_%w+",true%]$', json)
  end)

  it('is given up after its timeout', function()
    local json = run [[
      local listener = net.listen { host = '127.0.0.1', port = 0 }
      report = why(net.connect { host = '127.0.0.1', port = listener:port(), tls = { verify = false },
        timeout = 0.02 })]]
    assert.matches('["nil","ETIMEDOUT","connect 127.0.0.1:', json, 1, true)
  end)

  it('raises for wrong arguments', function()
    for call, expected in pairs {
      ['net.connect()'] = 'got a nil, expected a table of options',
      ['net.connect {}'] = 'expected host and port, or path',
      ["net.connect { host = 'x' }"] = 'expected host and port, or path',
      ["net.connect { host = 'x', port = '1' }"] = 'port is a string, expected a number',
      ["net.connect { host = 'x', port = 70000 }"] = 'expected a port of 0 to 65535',
      ["net.connect { host = 'x', port = 1, timeout = -1 }"] = 'expected a timeout',
      ["net.connect { hots = 'x' }"] = "unknown option 'hots'",
      ["net.connect { host = 'x', port = 1, tls = { cafile = 'x' } }"] = "unknown option 'cafile'",
      ['tcp(function() end, function(c) c:read_exactly(65537) end)'] = 'payload is read into buffers',
      ["tcp(function() end, function(c) c:read_until '' end)"] = 'a delimiter of 1 to 16 bytes',
      ['tcp(function() end, function(c) c:read_exactly_into(buf) end)'] = 'read%-only',
      ['tcp(function() end, function(c) c:write({}) end)'] = 'neap.buffer expected',
      ['tcp(function() end, function(c) c:write({ buf, 1, 100 }) end)'] = 'length is 100',
      ['tcp(function() end, function(c) coroutine.wrap(c.read_exactly)(c, 1) end)'] = 'cannot await inside a coroutine',
    } do
      local json = run(('report = select(2, pcall(function() %s end))'):format(call))
      assert.matches(expected, json)
    end
  end)

  it('that is closed tells so, and stays closed', function()
    local json = run [[
      local got = {}
      tcp(function() end, function(conn)
        got[1] = conn.closed
        conn:close()
        conn:close()
        got[2], got[3], got[4] = conn.closed, why(conn:write 'x'), why(conn:read_exactly(1))
      end)
      report = got]]
    assert.matches('[false,true,["nil","ECONNABORTED","write: the connection is closed"],["nil","ECONNABORTED"', json,
      1, true)
  end)

  it('wakes who waits for it when another closes it', function()
    local json = run [[
      local got = {}
      tcp(function(conn) conn:read_exactly(1) end, function(conn)
        neap.all { function() got = why(conn:read_exactly(1)) end, function() conn:close() end }
      end)
      report = got]]
    assert.equals('["nil","ECONNABORTED","read: the connection is closed"]', json)
  end)

  it('is read by one coroutine and written by another, but not by two', function()
    assert.equals('[true,true]', run([[
      local got = {}
      tcp(function(conn)
        local b = neap.buffer(buf:size())
        neap.all { function() assert(conn:read_exactly_into(b)) end, function() assert(conn:write(buf)) end }
        got[1] = b:equals(buf)
      end, function(conn)
        local b = neap.buffer(buf:size())
        neap.all { function() assert(conn:read_exactly_into(b)) end, function() assert(conn:write(buf)) end,
          function() got[2] = not pcall(conn.read_exactly, conn, 1) end }
        assert(b:equals(buf))
      end)
      report = got]], ('q'):rep(8 * 1048576)))
  end)

  it('takes many parts in one write', function()
    assert.equals('[true,"at most"]', run([[
      local got = {}
      tcp(function(conn)
        local b = neap.buffer(500 * 20007)
        assert(conn:read_exactly_into(b))
        local line, ok = neap.buffer(20007):copy(buf, 0, 0, 20000):poke(20000, 'newline'):crc32c(), true
        for i = 0, 499 do ok = ok and b:crc32c(i * 20007, 20007) == line end
        got[1] = ok
      end, function(conn)
        local parts = {}
        for _ = 1, 500 do parts[#parts + 1], parts[#parts + 2] = buf, 'newline' end
        assert(conn:write(unpack(parts)))
        for i = 1, 1025 do parts[i] = 'x' end
        got[2] = select(2, pcall(conn.write, conn, unpack(parts))):match '1024 parts' and 'at most'
      end)
      report = got]], ('r'):rep(20000)))
  end)

  it('is one of 200 that a script has at a time', function()
    assert.equals('[200,200]', run [[
      local listener = net.listen { host = '127.0.0.1', port = 0 }
      local open, ok = {}, 0
      local outcomes = neap.all {
        function()
          for i = 1, 200 do open[i] = assert(listener:accept()) end
          for i = 1, 200 do assert(open[i]:write(assert(open[i]:read_until '\n'), '\n')) end
        end,
        function()
          local conns = {}
          for i = 1, 200 do conns[i] = assert(net.connect { host = '127.0.0.1', port = listener:port() }) end
          for i = 1, 200 do assert(conns[i]:write(i .. '\n')) end
          for i = 1, 200 do ok = ok + (conns[i]:read_until '\n' == tostring(i) and 1 or 0) end
        end }
      assert(outcomes[1].ok and outcomes[2].ok, outcomes[1].error or outcomes[2].error)
      report = { #open, ok }]])
  end)

  it('that is forgotten is closed', function()
    assert.equals('["EOF"]', run [[
      local listener = net.listen { host = '127.0.0.1', port = 0 }
      neap.all { function() assert(net.connect { host = '127.0.0.1', port = listener:port() }) end }
      local conn = listener:accept()
      collectgarbage()
      collectgarbage()
      report = { (select(2, conn:read_exactly(1))) }]])
  end)

  describe('of an operation that ends early', function()
    -- The server is another operation's hook, so that it outlives the canceled one.
    local function server_and(bodies)
      return hook.open { head = head .. ' local listener, conn, phase, done = nil, nil, 0, false',
        lookup = bodies.server, store = bodies.store, load = bodies.load }
    end
    local BEGIN = [[
      listener = net.listen { host = '127.0.0.1', port = 0 }
      conn = assert(net.connect { host = '127.0.0.1', port = listener:port() }) ]]
    local function phase(adapter)
      driver.eventually(function()
        return adapter:status():match '"report":"waiting"'
      end)
    end

    it('writes nothing into the buffer any more', function()
      local adapter = server_and { load = BEGIN .. [[
        report = 'waiting'
        local ok, message = pcall(conn.read_exactly_into, conn, buf)
        report = { ok, message, conn.closed }
        conn:close()
        error(message, 0)]], server = [[
        local peer = assert(listener:accept())
        peer:write(('x'):rep(100))
        report = { report, peer:write(('x'):rep(1000)) and 'written' or 'refused' }
        peer:close()
        return false]] }
      local op = adapter:submit('load', { { key = hook.key(1), bytes = 64 } })
      phase(adapter)
      op:cancel()
      assert.equals('NEAP_ECANCELED', op:wait():result())
      assert.matches('[false,"neap: operation canceled",true]', adapter:status(), 1, true)
      adapter:lookup(hook.key(1))
      assert.equals(('\0'):rep(64), op:data())
      adapter:close()
    end)

    it('is told of its deadline when the server never answers', function()
      local adapter = server_and { load = BEGIN .. [[ return conn:read_exactly_into(buf) ]] }
      local op = adapter:submit('load', { { key = hook.key(1), bytes = 64 } }, 30):wait()
      assert.equals('NEAP_ETIMEDOUT', op:result())
      adapter:close()
    end)

    it('stops a write that the peer does not take', function()
      local adapter = server_and { store = BEGIN .. [[
        report = 'waiting'
        local ok, message = pcall(function() while true do assert(conn:write(buf)) end end)
        report = { ok, message, conn.closed }
        error(message, 0)]] }
      local op = adapter:submit('store', { { key = hook.key(1), data = ('w'):rep(16 * 1048576) } })
      phase(adapter)
      op:cancel()
      assert.equals('NEAP_ECANCELED', op:wait():result())
      assert.matches('[false,"neap: operation canceled",true]', adapter:status(), 1, true)
      adapter:close()
    end)

    it('gives up connecting, accepting and looking up', function()
      for _, body in ipairs {
        "net.connect { host = '127.0.0.1', port = listener:port(), tls = true }", 'listener:accept()',
        'neap.semaphore(0):acquire()', 'neap.all { function() listener:accept() end, function() neap.sleep(3600) end }',
      } do
        local adapter = server_and { store = ([[
          listener = net.listen { host = '127.0.0.1', port = 0 }
          report = 'waiting'
          %s
          return true]]):format(body) }
        local op = adapter:submit('store', { { key = hook.key(1), data = 'x' } })
        phase(adapter)
        op:cancel()
        assert.equals('NEAP_ECANCELED', op:wait():result(), body)
        adapter:close()
      end
    end)
  end)
end)
