-- SPDX-License-Identifier: MIT
--
-- Sockets as scripts use them. Server and client are functions of one hook, so both ends run in the engine's own VM;
-- what a server does wrong is done by raw writes of another connection.

local driver = require 'spec.support.adapter_driver'
local hook = require 'spec.support.hook'

-- pair(server, client): both run, the server on the accepted connection; what the client returns is returned.
local HEAD = [[
local neap = require 'neap'
local net = neap.net
local dir = %q
local function pair(listen, connect, server, client)
  local listener = assert(net.listen(listen))
  connect.port = listener:port()
  local outcomes = neap.all {
    function()
      local conn = assert(listener:accept())
      server(conn)
      conn:close()
    end,
    function()
      local conn = assert(net.connect(connect))
      local a, b, c = client(conn)
      conn:close()
      return a, b, c
    end,
  }
  listener:close()
  assert(outcomes[1].ok, outcomes[1].traceback)
  assert(outcomes[2].ok, outcomes[2].traceback)
  return unpack(outcomes[2], 1, outcomes[2].n)
end
local function tcp(server, client)
  return pair({ host = '127.0.0.1', port = 0 }, { host = '127.0.0.1' }, server, client)
end
]]

describe('neap.net', function()
  local dir, _, remove

  before_each(function()
    dir, _, remove = driver.directory()
  end)

  after_each(function()
    os.execute(('rm -rf -- %s/sub'):format(dir))
    remove()
  end)

  local function run(body, data)
    return (hook.run(HEAD:format(dir) .. body, data))
  end

  local ECHO = [[
    local function echo(conn)
      local bytes = tonumber(assert(conn:read_until '\n'))
      local b = neap.buffer(bytes)
      assert(conn:read_exactly_into(b))
      assert(conn:write(('%d\r\n'):format(bytes), { b, 0, 10 }, { b, 10, bytes - 10 }, '\r\n'))
    end
    local function ask(conn)
      assert(conn:write(('%d\n'):format(buf:size()), buf))
      local back = neap.buffer(buf:size() + 10)
      assert(conn:read_until '\r\n' == tostring(buf:size()))
      assert(conn:read_exactly_into(back, 10, buf:size()))
      assert(conn:read_exactly(2) == '\r\n')
      return back:crc32c(10) == buf:crc32c(), conn:peer()
    end
  ]]

  it('moves strings and buffers over TCP', function()
    assert.matches('^%[true,"127.0.0.1:%d+"%]$', run(ECHO .. 'report = { tcp(echo, ask) }', ('abc'):rep(1000000)))
  end)

  it('moves strings and buffers over a unix socket', function()
    assert.equals(('[true,"%s/sub"]'):format(dir), run(ECHO .. [[
      report = { pair({ path = dir .. '/sub' }, { path = dir .. '/sub' }, echo, ask) }]], ('abc'):rep(1000000)))
  end)
end)
