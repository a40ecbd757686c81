-- SPDX-License-Identifier: MIT
--
-- TCP servers that misbehave as a spec wants it: a child process that listens on a free port of loopback and forks for
-- each connection, which runs a Lua function over blocking sockets. All of them die with the spec, or by stop().

local ffi = require 'ffi'

require 'spec.support.server' -- declares fork, kill, socket and their like

ffi.cdef [[
int listen(int fd, int backlog);
int accept(int fd, void *address, void *bytes);
long recv(int fd, void *data, size_t bytes, int flags);
long send(int fd, const void *data, size_t bytes, int flags);
]]

local C = ffi.C
local SIGKILL, PDEATHSIG, WNOHANG, NOSIGNAL = 9, 1, 1, 0x4000
local LOOPBACK = 0x0100007f

---@class scripted.Connection
---@field number integer 1 for the server's first
---@field port integer the server's
local Connection = {}
Connection.__index = Connection

local function fill(self)
  local n = tonumber(C.recv(self.fd, self.chunk, 65536, 0))
  if n <= 0 then
    C._exit(0) -- the client is gone
  end
  self.input = self.input .. ffi.string(self.chunk, n)
end

---Exactly n bytes.
function Connection:bytes(n)
  while #self.input < n do
    fill(self)
  end
  local text = self.input:sub(1, n)
  self.input = self.input:sub(n + 1)
  return text
end

---A line, without its end.
function Connection:line()
  while not self.input:find('\r\n', 1, true) do
    fill(self)
  end
  local text, rest = self.input:match '^(.-)\r\n(.*)$'
  self.input = rest
  return text
end

---The next command of RESP as words.
function Connection:command()
  local words = {}
  for i = 1, tonumber(self:line():match '^%*(%d+)$') do
    words[i] = self:bytes(tonumber(self:line():match '^%$(%d+)$'))
    self:bytes(2)
  end
  return words
end

function Connection:write(text)
  local at = 0
  while at < #text do
    local n = tonumber(C.send(self.fd, ffi.cast('const char *', text) + at, #text - at, NOSIGNAL))
    if n <= 0 then
      C._exit(0)
    end
    at = at + n
  end
end

---Ends the connection.
function Connection:close() -- luacheck: ignore self
  C._exit(0)
end

---Says nothing more until the client closes.
function Connection:hang()
  while true do
    fill(self)
    self.input = ''
  end
end

local function child()
  local pid = C.fork()
  assert(pid >= 0, 'fork failed')
  if pid == 0 then
    C.prctl(PDEATHSIG, SIGKILL, 0, 0, 0)
  end
  return pid
end

local function serve(listener, port, script)
  local number = 0
  while true do
    local fd = C.accept(listener, nil, nil)
    number = number + 1
    if child() == 0 then
      C.close(listener)
      local connection = setmetatable({ fd = fd, input = '', chunk = ffi.new 'char[65536]', number = number,
        port = port }, Connection)
      local ok, failure = pcall(script, connection)
      if not ok then
        io.stderr:write('scripted server: ', tostring(failure), '\n')
      end
      C._exit(0)
    end
    C.close(fd)
    repeat until C.waitpid(-1, nil, WNOHANG) <= 0
  end
end

local M = {}

---Serves each connection with script(connection); the connection ends when script returns.
---@param script fun(connection: scripted.Connection)
---@return { port: integer, stop: fun() }
function M.serve(script)
  local listener = C.socket(2, 1, 0)
  local address = ffi.new('struct neap_sockaddr', { family = 2, address = LOOPBACK })
  local bytes = ffi.new('unsigned[1]', ffi.sizeof(address))
  assert(C.bind(listener, address, bytes[0]) == 0 and C.listen(listener, 64) == 0, 'cannot listen')
  assert(C.getsockname(listener, address, bytes) == 0)
  local pid = child()
  if pid == 0 then
    serve(listener, C.ntohs(address.port), script)
  end
  C.close(listener)
  local function stop()
    if pid then
      C.kill(pid, SIGKILL)
      C.waitpid(pid, nil, 0)
      pid = nil
    end
  end
  return { port = C.ntohs(address.port), stop = stop }
end

-- What a client wants to know before it asks for anything.
local function smalltalk(words, mode)
  local facts = '%3\r\n$2\r\nid\r\n:1\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:3\r\n'
  local info = 'cluster_enabled:' .. (mode == 'cluster' and '1' or '0')
  local replies = { HELLO = facts, CLIENT = ':1\r\n', INFO = ('$%d\r\n%s\r\n'):format(#info, info) }
  return replies[words[1]]
end

---A Redis whose commands are answered by answer(words, connection), a RESP text; greetings are answered as Redis does.
---@param answer fun(words: string[], connection: scripted.Connection): string?
---@param mode? 'cluster'
function M.redis(answer, mode)
  return M.serve(function(connection)
    while true do
      local words = connection:command()
      connection:write(smalltalk(words, mode) or answer(words, connection) or '')
    end
  end)
end

return M
