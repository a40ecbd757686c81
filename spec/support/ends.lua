-- SPDX-License-Identifier: MIT
--
-- Lua for a hook that is both ends of a connection. pair(listen, connect, server, client) runs them on it and returns
-- what the client returned; tcp(server, client) is that over loopback. echo and ask are a server and a client for
-- `BYTES LF payload`; why(...) puts a result into a list. dir is a directory of the spec's own.

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
      local ok, message = pcall(server, conn)
      conn:close()
      assert(ok, message)
    end,
    function()
      local conn, _, message = net.connect(connect)
      if not conn then
        listener:close()
        error(message)
      end
      local ok, a, b, c = pcall(client, conn)
      conn:close()
      assert(ok, a)
      return a, b, c
    end,
  }
  listener:close()
  assert(outcomes[2].ok, outcomes[2].traceback)
  assert(outcomes[1].ok, outcomes[1].traceback)
  return unpack(outcomes[2], 1, outcomes[2].n)
end
local function tcp(server, client)
  return pair({ host = '127.0.0.1', port = 0 }, { host = '127.0.0.1' }, server, client)
end
local function echo(conn)
  local bytes = tonumber(assert(conn:read_until '\n'))
  local b = neap.buffer(bytes)
  assert(conn:read_exactly_into(b))
  assert(conn:write(('%%d\r\n'):format(bytes), { b, 0, 10 }, { b, 10, bytes - 10 }, '\r\n'))
end
local function ask(buf)
  return function(conn)
    assert(conn:write(('%%d\n'):format(buf:size()), buf))
    local back = neap.buffer(buf:size() + 10)
    assert(conn:read_until '\r\n' == tostring(buf:size()))
    assert(conn:read_exactly_into(back, 10, buf:size()))
    assert(conn:read_exactly(2) == '\r\n')
    return back:crc32c(10) == buf:crc32c(), conn:peer()
  end
end
local function why(ok, code, message) return { ok == nil and 'nil' or ok, code, message } end
]]

return {
  head = function(dir)
    return HEAD:format(dir)
  end,
}
