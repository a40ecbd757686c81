-- SPDX-License-Identifier: MIT
--
-- TLS of connections, with certificates that the openssl program makes once for this file.

local driver = require 'spec.support.adapter_driver'
local ends = require 'spec.support.ends'
local hook = require 'spec.support.hook'

local function shell(dir, text)
  assert(os.execute(('cd %s && { %s; } >openssl.log 2>&1'):format(dir, text:gsub('\n', ' '))) == 0, text)
end

local CERTIFICATES = [[
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=spec-ca
    -keyout ca.key -out ca.pem &&
  for who in server client; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=$who -keyout $who.key -out $who.csr &&
    printf 'subjectAltName=DNS:store.example,IP:127.0.0.1' >$who.ext &&
    openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $who.ext -out $who.pem
    || exit 1;
  done;
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=other
    -keyout other.key -out other.pem]]

describe('a TLS connection', function()
  local dir

  setup(function()
    dir = driver.directory()
    shell(dir, CERTIFICATES)
  end)

  teardown(function()
    os.execute(('rm -rf -- %s'):format(dir))
  end)

  -- serve: TLS options of the listener, trust: of the client; both as Lua text.
  local function run(serve, trust, body, data)
    local options = [[
      local function at(name) return dir .. '/' .. name end
      local serve, trust = %s, %s
      local listen = { host = '127.0.0.1', port = 0, tls = serve }
      local connect = { host = '127.0.0.1', tls = trust, timeout = 20 } ]]
    return (hook.run(ends.head(dir) .. options:format(serve, trust) .. body, data))
  end

  local SERVER = "{ cert = at 'server.pem', key = at 'server.key' }"
  local FAIL = [[
    local listener = net.listen(listen)
    connect.port = listener:port()
    neap.all {
      function() local conn = listener:accept() if conn then conn:read_exactly(1) conn:close() end end,
      function()
        local conn, code, message = net.connect(connect)
        if conn then
          report = { 'connected', (why(conn:read_exactly(1)))[2] }
          conn:close()
        else
          report = { code, message }
        end
      end }
    listener:close()]]

  it('moves payload both ways, checked against a CA file', function()
    assert.matches('^%[true,"127.0.0.1:%d+"%]$', run(SERVER, "{ ca = at 'ca.pem' }",
      'report = { pair(listen, connect, echo, ask(buf)) }', ('abc'):rep(1000000)))
  end)

  it('carries replies, pieces and the end of the stream like any other', function()
    assert.equals('["one",true,"EOF","rest"]', run(SERVER, "{ ca = at 'ca.pem', server_name = 'store.example' }", [[
      local got = {}
      pair(listen, connect, function(conn)
        local b = neap.buffer(200000):fill(7)
        for byte in ('one\r\n'):gmatch '.' do assert(conn:write(byte)) end
        assert(conn:write(b))
        got[3] = select(2, conn:read_exactly(1))
        assert(conn:write 'rest')
      end, function(conn)
        local b = neap.buffer(200000)
        got[1] = conn:read_until '\r\n'
        assert(conn:read_exactly_into(b))
        got[2] = b:equals(neap.buffer(200000):fill(7))
        assert(conn:shutdown())
        got[4] = conn:read_exactly(4)
      end)
      report = got]]))
  end)

  -- The other end is a script of its own: it sends while this one reads, so that this one never has to wait.
  it('gives what has come already, when the peer has no more to send', function()
    local bytes = 2 ^ 22 + 20000 -- more than a connection gives in one turn of its loop, but not by much
    local sender = hook.open { head = ends.head(dir), store = [[
      local listener = net.listen { host = '127.0.0.1', port = 0, tls = { cert = dir .. '/server.pem',
        key = dir .. '/server.key' } }
      report = listener:port()
      local conn = assert(listener:accept())
      local b = neap.buffer(]] .. bytes .. [[):fill(7)
      while conn:read_exactly(1) do assert(conn:write(b)) end
      return true]] }
    local op, port = sender:submit('store', { { key = driver.key(1), data = 'x' } }), nil
    driver.eventually(function()
      port = sender:status():match '"report":(%d+)'
      return port
    end)
    local receiver = hook.open { head = ends.head(dir), store = ([[
      local b = neap.buffer(%d)
      local conn = assert(net.connect { host = '127.0.0.1', port = %s, tls = { ca = dir .. '/ca.pem' }, timeout = 20 })
      for _ = 1, 20 do
        assert(conn:write 'x')
        neap.sleep(0.01) -- as much as the kernel holds
        assert(conn:read_exactly_into(b))
      end
      conn:close()
      assert(b:equals(neap.buffer(%d):fill(7)))
      return true]]):format(bytes, port, bytes) }
    local result = receiver:submit('store', { { key = driver.key(1), data = 'x' } }, 20000):wait():result()
    receiver:close()
    op:cancel()
    op:wait()
    sender:close()
    assert.equals('NEAP_OK', result)
  end)

  it('is not idle when there is something that nobody asked for, or the end', function()
    local json = run(SERVER, "{ ca = at 'ca.pem' }", [[
      local got, step = {}, 0
      local function reach(n) while step < n do neap.sleep(0.001) end end
      local function busy(conn) -- in time
        local give_up = neap.now() + 10
        while conn:idle() and neap.now() < give_up do neap.sleep(0.001) end
        return not conn:idle()
      end
      pair(listen, connect, function(conn)
        assert(conn:write 'a')
        reach(1)
        assert(conn:write 'bc')
        assert(conn:write 'unasked')
        reach(2)
      end, function(conn)
        got[1] = { conn:read_exactly(1), conn:idle() }
        step = 1
        neap.sleep(0.01) -- both records come with one system call
        got[2] = { conn:read_exactly(2), busy(conn) }
        got[3] = conn:read_exactly(7)
        got[4] = conn:idle()
        step = 2
        got[5] = busy(conn)
      end)
      report = got]])
    assert.equals('[["a",true],["bc",true],"unasked",true,true]', json)
  end)

  it('refuses a certificate that it has no reason to trust', function()
    local json = run(SERVER, 'true', FAIL)
    assert.matches('["EPROTO","connect 127.0.0.1:', json, 1, true)
    assert.matches("TLS: the peer's certificate is not accepted: unable to get local issuer", json, 1, true)
    assert.matches('not accepted: self%-signed', run("{ cert = at 'other.pem', key = at 'other.key' }",
      "{ ca = at 'ca.pem' }", FAIL))
  end)

  it('refuses a certificate for another name', function()
    assert.matches('not accepted: hostname mismatch', run(SERVER, "{ ca = at 'ca.pem', server_name = 'x.example' }",
      FAIL))
    assert.matches('not accepted: IP address mismatch', run(SERVER, "{ ca = at 'ca.pem', server_name = '127.0.0.2' }",
      FAIL))
  end)

  it('takes any certificate when told not to verify', function()
    assert.equals('[true]', run("{ cert = at 'other.pem', key = at 'other.key' }", '{ verify = false }',
      'report = { (pair(listen, connect, echo, ask(buf))) }', ('abc'):rep(10)))
  end)

  it('shows a certificate of its own to a server that asks for one', function()
    local asks = "{ cert = at 'server.pem', key = at 'server.key', ca = at 'ca.pem' }"
    assert.equals('[true]', run(asks, "{ ca = at 'ca.pem', cert = at 'client.pem', key = at 'client.key' }",
      'report = { (pair(listen, connect, echo, ask(buf))) }', ('abc'):rep(10)))
    assert.matches('certificate required', run(asks, "{ ca = at 'ca.pem' }", [[
      local listener = net.listen(listen)
      connect.port = listener:port()
      local got
      neap.all {
        function() listener:accept() end,
        function()
          local conn, _, message = net.connect(connect)
          got = message or (why(conn:read_exactly(1)))[3]
        end }
      report = got]]))
  end)

  it('tells of a peer that does not speak TLS', function()
    local json = run('nil', "{ ca = at 'ca.pem' }", [[
      local listener = net.listen(listen)
      connect.port = listener:port()
      neap.all {
        function() local conn = listener:accept() conn:write '-ERR what?\r\n' conn:read_until 'never' end,
        function() report = why(net.connect(connect)) end }]])
    assert.matches('"EPROTO","connect 127.0.0.1:%d+: TLS: wrong version number', json)
  end)

  it('tells a stream that was cut off from one that ended', function()
    local json = run(SERVER, "{ ca = at 'ca.pem' }", [[
      local proxy, listener = net.listen { host = '127.0.0.1', port = 0 }, net.listen(listen)
      connect.port = proxy:port()
      local got
      neap.all {
        function() local conn = listener:accept() conn:write 'abc' conn:read_exactly(1) conn:close() end,
        function() -- passes records on until the reply is through, then drops the line
          local near = proxy:accept()
          local far = net.connect { host = '127.0.0.1', port = listener:port() }
          local function pass(from, to)
            return function()
              local byte = from:read_exactly(1)
              while byte and to:write(byte) do byte = from:read_exactly(1) end
            end
          end
          neap.all { pass(near, far), pass(far, near), function()
            while not got do neap.sleep(0.0005) end
            near:close()
            far:close()
          end }
        end,
        function()
          local conn = assert(net.connect(connect))
          got = { conn:read_exactly(3) }
          got[2] = why(conn:read_exactly(1))
        end }
      report = got]])
    assert.matches('["abc",["nil","ECONNRESET","read: TLS: the stream was cut off', json, 1, true)
  end)

  it('says which file is no good', function()
    for trust, expected in pairs {
      ["{ ca = at 'none.pem' }"] = '"EINVAL","connect 127.0.0.1:1: cannot use the CA file ',
      ["{ cert = at 'ca.key' }"] = 'cannot use the certificate ',
      ["{ cert = at 'client.pem', key = at 'server.key' }"] = 'cannot use the key ',
    } do
      assert.matches(expected, run('nil', trust, 'connect.port = 1 report = why(net.connect(connect))'), 1, true)
    end
  end)
end)
