-- SPDX-License-Identifier: MIT
--
-- redis.node - one server: its pool of connections, and pipelines of requests over one of them. What it promises: a
-- reply belongs to its request or the connection is dropped; of a request without a reply it is known whether the
-- server may have received it (`sent`). What replies mean, and what is done again, is not its business.
--
-- A request: { kind = 'store'|'load'|'lookup'|'delete', name = the key in the store, buffer?, bytes, asking?, doubt? }.
-- After a pipeline either request.reply is set, as wire.read and wire.read_into return it, or request.lost = { code,
-- message }.

local neap = require 'neap'
local net = require 'neap.net'
local wire = require 'redis.wire'

local command = wire.command

local WINDOW = 16 * 2 ^ 20 -- bytes of payload that are under way on one connection
local PARTS_MAX = 512 -- of one write
local OVERHEAD = 256 -- what a request without payload counts for in the window
local IDLE_S = 60

-- After these replies a connection is of no use: it is not logged in any more, or its server became a replica, and the
-- name has to be looked up again.
local spoils = { NOAUTH = true, READONLY = true }

---@class redis.Node
---@field address string
---@field host string
local Node = {}
Node.__index = Node

local node = {}

local facts = setmetatable({}, { __mode = 'k' }) -- connection -> { id, version, uses }

local function refused(reply)
  local permission = { NOAUTH = true, WRONGPASS = true, NOPERM = true }
  return nil, permission[reply.name] and 'EPERM' or 'EIO', reply.text
end

-- Sends commands and returns their replies.
local function ask(conn, ...)
  local done, code, message = conn:write(...)
  if not done then
    return nil, code, message
  end
  local replies = {}
  for i = 1, select('#', ...) do
    replies[i], code, message = wire.read(conn)
    if replies[i] == nil then
      return nil, code, message
    end
  end
  return replies
end

local function credentials(options)
  if options.password == '' then
    return
  end
  return 'AUTH', options.username ~= '' and options.username or 'default', options.password
end

-- HELLO 3, which old servers do not know. Returns the server's facts; {} if it speaks version 2.
local function hello(conn, options)
  local replies, code, message = ask(conn, command('HELLO', '3', credentials(options)))
  if not replies then
    return nil, code, message
  end
  local reply = replies[1]
  if not wire.is_error(reply) then
    return type(reply) == 'table' and { id = reply.id, version = reply.version, protocol = 3 } or {}
  elseif reply.name ~= 'ERR' and reply.name ~= 'NOPROTO' then
    return refused(reply)
  end
  return {}
end

local function authenticate(conn, options)
  if options.password == '' then
    return true
  end
  local words = { 'AUTH', options.password }
  if options.username ~= '' then
    table.insert(words, 2, options.username)
  end
  local replies, code, message = ask(conn, command(unpack(words)))
  if replies and wire.is_error(replies[1]) then
    return refused(replies[1])
  end
  return replies and true, code, message
end

-- From here on both versions are alike.
local function settle_in(conn, options, known)
  local commands = { command('CLIENT', 'SETNAME', 'neap'), command('CLIENT', 'ID') }
  if options.database ~= 0 then
    commands[#commands + 1] = command('SELECT', options.database)
  end
  if options.replica_reads then
    commands[#commands + 1] = command 'READONLY'
  end
  local replies, code, message = ask(conn, unpack(commands))
  if not replies then
    return nil, code, message
  elseif options.database ~= 0 and wire.is_error(replies[3]) then
    return refused(replies[3])
  end
  known.id = type(replies[2]) == 'number' and replies[2] or nil -- SETNAME and ID may be forbidden: no matter
  return true
end

local function greet(conn, options)
  local known, code, message = {}, nil, nil
  if options.protocol == 3 then
    known, code, message = hello(conn, options)
  end
  local done = known
  if known and not known.protocol then
    known.protocol = 2
    done, code, message = authenticate(conn, options)
  end
  if done then
    done, code, message = settle_in(conn, options, known)
  end
  if done then
    known.uses = 0
    facts[conn] = known
  end
  return done, code, message
end

local function connect(self)
  local o = self.options
  local conn, code, message = net.connect { host = self.host, port = self.port, path = self.path, tls = o.tls,
    timeout = o.connect_timeout }
  if not conn then
    return nil, code, message
  end
  local ok, done
  ok, done, code, message = pcall(greet, conn, o)
  if ok and done then
    return conn
  end
  conn:close()
  if not ok then
    error(done, 0)
  end
  return nil, code, message
end

---@param options table { username, password, database, protocol, replica_reads, tls, connect_timeout, connections }
---@param address string 'host:port', or the path of a unix socket
---@return redis.Node
function node.new(options, address)
  local self = setmetatable({ options = options, address = address }, Node)
  local host, port = address:match '^([^/].*):(%d+)$'
  self.host, self.port = host, tonumber(port)
  self.path = not host and address or nil
  self.pool = neap.pool { open = function() return connect(self) end, size = options.connections, idle = IDLE_S }
  return self
end

-- What is written for a request before its payload; request.before counts the replies that come before its own.
local function frame(request, parts, set_options)
  local before, n = 0, #parts
  local function put(part)
    n = n + 1
    parts[n] = part
  end
  if request.doubt then
    for _, text in ipairs(request.doubt) do
      put(text)
      before = before + 1
    end
    if request.asking then
      put(command 'ASKING')
      before = before + 1
    end
    put(command('UNLINK', request.name))
    before = before + 1
    request.unlink_at = before
  end
  if request.asking then
    put(command 'ASKING')
    before = before + 1
  end
  if request.kind == 'store' then
    local head, tail = wire.set(request.name, request.bytes, set_options)
    put(head)
    put(request.buffer)
    put(tail)
  elseif request.kind == 'load' then
    put(command('GET', request.name))
  else
    put(command(request.kind == 'lookup' and 'STRLEN' or 'UNLINK', request.name))
  end
  request.before, request.sent = before, true
end

local function weight(request)
  return OVERHEAD + (request.buffer and request.bytes or 0)
end

-- The replies before the request's own, of which only UNLINK's is of interest, and its own.
local function receive(conn, request)
  for i = 1, request.before do
    local reply, code, message = wire.read(conn)
    if reply == nil then
      return nil, code, message
    elseif i == request.unlink_at and type(reply) == 'number' then
      request.cleared = true
    end
  end
  local reply, code, message
  if request.kind == 'load' then
    reply, code, message = wire.read_into(conn, request.buffer)
  else
    reply, code, message = wire.read(conn)
  end
  request.reply = reply
  return reply ~= nil and not code, code, message
end

-- Writes while the window has room, reads one reply, and so on. Awaits.
local function exchange(conn, requests, set_options)
  local sent, read, flying, spoiled = 0, 0, 0, nil
  while read < #requests do
    if sent < #requests and flying <= WINDOW / 2 then
      local parts = {}
      repeat
        sent = sent + 1
        frame(requests[sent], parts, set_options)
        flying = flying + weight(requests[sent])
      until sent == #requests or flying >= WINDOW or #parts >= PARTS_MAX
      local done, code, message = conn:write(unpack(parts))
      if not done then
        return nil, code, message
      end
    end
    read = read + 1
    local done, code, message = receive(conn, requests[read])
    if not done then
      return nil, code, message, requests[read].reply ~= nil
    end
    flying = flying - weight(requests[read])
    local reply = requests[read].reply
    spoiled = spoiled or (wire.is_error(reply) and spoils[reply.name] and reply.text)
  end
  if spoiled then
    return nil, 'EIO', spoiled
  end
  return true
end

---One pipeline over one connection. Raises when the hook is to end; the connection is dropped then. Awaits.
---@param requests table[]
---@param set_options string[] of SET
function Node:pipeline(requests, set_options)
  local conn_facts
  local ok, done, code, message, our_choice = pcall(self.pool.with, self.pool, function(conn)
    conn_facts = facts[conn]
    conn_facts.uses = conn_facts.uses + 1
    return exchange(conn, requests, set_options)
  end)
  for _, request in ipairs(requests) do
    if request.reply == nil then
      request.lost = { code = ok and code or 'EIO', message = ok and message or 'canceled',
        blameless = our_choice or conn_facts and conn_facts.uses > 1,
        closed_by_us = not ok and conn_facts and conn_facts.id or nil }
    end
  end
  if not ok then
    error(done, 0)
  end
end

---Runs f(ask) with one connection; ask(command, ...) returns replies or nil, code, message. Awaits.
---@param f fun(ask: fun(...: string): any[]?, string?, string?): any, string?, string?
function Node:with(f)
  return self.pool:with(function(conn)
    local known = facts[conn]
    known.uses = known.uses + 1
    return f(function(...) return ask(conn, ...) end, known)
  end)
end

function Node:close()
  self.pool:close()
end

return node
