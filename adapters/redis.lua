-- SPDX-License-Identifier: MIT
--
-- RedisAdapter - objects as strings in Redis or Valkey, one server or a cluster. Keys and values are those of LMCache's
-- `resp` adapter: the NATIVE text of a key, the plain bytes of the object. The server evicts by its own policy: a key
-- that is gone is a miss. A value appears whole or not at all, for SET is atomic; NX makes the first store win.

local neap = require 'neap'
local client = require 'redis.client'
local wire = require 'redis.wire'

local command = wire.command

local M = {}

local PAGE = 500 -- keys that one SCAN is asked for
local PAGE_PART = 250 -- of them are asked about with one write

M.RedisAdapterConfig = {
  host = { type = 'string', min = 1, default = '127.0.0.1', doc = 'name or address of the server' },
  port = { type = 'integer', min = 1, max = 65535, default = 6379 },
  path = { type = 'string', default = '', doc = 'unix socket of the server, instead of host and port' },
  nodes = { type = 'array', max = 1000,
    doc = "further servers to learn a cluster's topology from, as 'host:port'" },
  cluster = { type = 'string', enum = { 'auto', 'yes', 'no' }, default = 'auto', doc = 'auto: ask the server' },
  replica_reads = { type = 'boolean', default = false, doc = "load from a cluster's replicas where they have it" },
  username = { type = 'string', default = '' },
  password = { type = 'string', default = '' },
  database = { type = 'integer', min = 0, max = 1000000, default = 0 },
  protocol = { type = 'integer', enum = { 2, 3 }, default = 3, doc = '3 falls back to 2 with servers that lack it' },
  key_prefix = { type = 'string', default = '', doc = 'PREFIX@ before every key' },
  ttl = { type = 'number', min = 0, max = 1e9, default = 0, doc = 'seconds until a stored object expires; 0: never' },
  connections = { type = 'integer', min = 1, max = 64, default = 4, doc = 'to each server' },
  connect_timeout = { type = 'number', above = 0, max = 3600, default = 5, doc = 'seconds' },
  tls = { type = 'boolean', default = false },
  tls_ca = { type = 'string', default = '', doc = 'file with the certificates to trust; "": those of the system' },
  tls_cert = { type = 'string', default = '', doc = 'file with the own certificate' },
  tls_private_key = { type = 'string', default = '', doc = 'file with its key' },
  tls_verify = { type = 'boolean', default = true },
  tls_server_name = { type = 'string', default = '', doc = 'the name that the certificate must have, if not host' },
}

local function given(text)
  return text ~= '' and text or nil
end

local function tls_options(params)
  return params.tls and {
    ca = given(params.tls_ca), cert = given(params.tls_cert), key = given(params.tls_private_key),
    verify = params.tls_verify, server_name = given(params.tls_server_name),
  } or nil
end

local function seeds(params)
  local addresses = { given(params.path) or ('%s:%d'):format(params.host, params.port) }
  for i, address in ipairs(params.nodes or {}) do
    local port = type(address) == 'string' and tonumber(address:match '^[^/].*:(%d+)$')
    if not port or port < 1 or port > 65535 then
      return nil, 'EINVAL', ("nodes[%d] is '%s', expected 'host:port'"):format(i, tostring(address))
    end
    addresses[#addresses + 1] = address
  end
  return addresses
end

local function wrong_parameter(params)
  if params.key_prefix:find '@' then
    return ("key_prefix is '%s', expected a text without '@'"):format(params.key_prefix)
  elseif params.path ~= '' and params.path:sub(1, 1) ~= '/' then
    return ("path is '%s', expected an absolute path"):format(params.path)
  elseif params.tls and params.path ~= '' then
    return 'tls is true with a unix socket, expected host and port'
  elseif (params.tls_cert == '') ~= (params.tls_private_key == '') then
    return 'tls_cert and tls_private_key belong together, one is missing'
  elseif params.username ~= '' and params.password == '' then
    return 'password is missing for username ' .. params.username
  end
end

---Opens a store over checked parameters; other modules use it to offer it under another name. Awaits.
---@param self table
---@param params table all of RedisAdapterConfig
function M.open(self, params)
  local wrong = wrong_parameter(params)
  if wrong then
    return nil, 'EINVAL', wrong
  end
  local addresses, code, message = seeds(params)
  if not addresses then
    return nil, code, message
  end
  self.prefix = params.key_prefix ~= '' and params.key_prefix .. '@' or ''
  self.client, code, message = client.open {
    seeds = addresses, cluster = params.cluster, replica_reads = params.replica_reads, username = params.username,
    password = params.password, database = params.database, protocol = params.protocol, ttl = params.ttl,
    connections = params.connections, connect_timeout = params.connect_timeout, tls = tls_options(params),
  }
  if not self.client then
    return nil, code, message
  end
  neap.log.info('%s: Redis %s, %s, RESP%d', addresses[1], tostring(self.client.version or 'of unknown version'),
    self.client.topology.mode, self.client.protocol)
end

-- What a reply means to the engine: a result, or nil, code, message.
local meaning = {
  store = function(request)
    if request.result == wire.null then
      return 0 -- it is there already
    elseif request.result == 'OK' then
      return request.bytes
    end
  end,
  load = function(request)
    if request.result == wire.null then
      return false
    elseif type(request.result) == 'number' then
      return nil, 'ECORRUPT', ('%d bytes are stored, %d were asked for'):format(request.result, request.bytes)
    elseif request.result == true then
      return true
    end
  end,
  lookup = function(request)
    if type(request.result) == 'number' then
      return request.result > 0 and request.result -- STRLEN of nothing is 0
    end
  end,
  delete = function(request)
    if type(request.result) == 'number' then
      return request.result > 0
    end
  end,
}

local function outcome(request)
  if request.code then
    return nil, request.code, request.message
  end
  local result, code, message = meaning[request.kind](request)
  if result == nil and not code then
    return nil, 'EIO', ('%s was answered with %s'):format(request.kind, tostring(request.result))
  end
  return result, code, message
end

-- The results as a batch form returns them. What is wrong with all alike is the engine's to report.
local function outcomes(requests)
  local results, codes, message = {}, {}, nil
  for i, request in ipairs(requests) do
    local result, code, why = outcome(request)
    results[i], codes[i], message = code or result, code or false, message or why
  end
  for i = 2, #codes do
    if codes[i] ~= codes[1] then
      if message then
        neap.log.warn('%s: %s', requests[1].kind, message)
      end
      return results
    end
  end
  if codes[1] then
    return nil, codes[1], message
  end
  return results
end

local function batch(kind)
  return function(self, keys, buffers)
    local requests = {}
    for i, key in ipairs(keys) do
      local buffer = buffers and buffers[i]
      requests[i] = { kind = kind, name = self.prefix .. key.text, buffer = buffer, bytes = buffer and buffer:size() }
    end
    self.client:run(requests)
    return outcomes(requests)
  end
end

-- The text that SCAN's MATCH takes for exactly this one.
local function quoted(text)
  return (text:gsub('[%*%?%[%]%^\\]', '\\%0'))
end

-- Some of a page of a listing: those names that are keys, with size and seconds since the last use. IDLETIME goes
-- first, for STRLEN is a use; it fails under an LFU policy. Returns false when the engine wants no more.
local function emit_names(self, ask, names, first, emit)
  local keys, commands = {}, {}
  for i = first, math.min(first + PAGE_PART - 1, #names) do
    local name = names[i]
    local key = type(name) == 'string' and neap.key(name:sub(#self.prefix + 1))
    if key and not self.client.doubtful[name] then
      keys[#keys + 1] = key
      commands[#commands + 1] = command('OBJECT', 'IDLETIME', name)
      commands[#commands + 1] = command('STRLEN', name)
    end
  end
  if #keys == 0 then
    return true
  end
  local replies, code, message = ask(unpack(commands))
  if not replies then
    return nil, code, message
  end
  for i, key in ipairs(keys) do
    local idle, bytes = replies[2 * i - 1], replies[2 * i]
    local used = type(idle) == 'number' and math.max(0, os.time() - idle) or nil
    if type(bytes) == 'number' and bytes > 0 and not emit(key, bytes, used) then
      return false
    end
  end
  return true
end

-- One page, which may have any number of names: the server takes COUNT for a hint.
local function emit_page(self, ask, names, emit)
  for first = 1, #names, PAGE_PART do
    local more, code, message = emit_names(self, ask, names, first, emit)
    if not more then
      return more, code, message
    end
  end
  return true
end

-- All keys of one server. SCAN may repeat a key while the server resizes its table.
local function scan(self, ask, emit)
  local cursor = '0'
  repeat
    local replies, code, message = ask(command('SCAN', cursor, 'MATCH', quoted(self.prefix) .. '*', 'COUNT', PAGE))
    local reply = replies and replies[1]
    if not reply then
      return nil, code, message
    elseif type(reply) ~= 'table' or type(reply[1]) ~= 'string' or type(reply[2]) ~= 'table' then
      return nil, 'EIO', 'SCAN was answered with ' .. tostring(reply)
    end
    cursor = reply[1]
    local more
    more, code, message = emit_page(self, ask, reply[2], emit)
    if not more then
      return more, code, message
    end
  until cursor == '0'
  return true
end

-- A listing does not count as use, where the server can be told so (version 7.2).
local function list_server(self, server, emit)
  return server:with(function(ask)
    local quiet, code, message = ask(command('CLIENT', 'NO-TOUCH', 'ON'))
    local more
    if quiet then
      more, code, message = scan(self, ask, emit)
    end
    if more ~= nil then
      quiet, code, message = ask(command('CLIENT', 'NO-TOUCH', 'OFF'))
    end
    if more == nil or not quiet then
      return nil, code, message
    end
    return more and 'all' or 'enough'
  end)
end

M.RedisAdapter = neap.adapter {
  version = '1.0',
  concurrency = 16,
  batch = 64,
  deadline = 10,
  retries = 2,
  backoff = 0.05,

  open = M.open,
  store_batch = batch 'store',
  load_batch = batch 'load',
  lookup_batch = batch 'lookup',
  delete_batch = batch 'delete',

  list = function(self, emit)
    for _, server in ipairs(self.client.topology:masters()) do
      local done, code, message = list_server(self, server, emit)
      if not done then
        return nil, code, message
      elseif done == 'enough' then
        break
      end
    end
    return true
  end,

  status = function(self)
    local topology, addresses = self.client.topology, {}
    for address in pairs(topology.nodes) do
      addresses[#addresses + 1] = address
    end
    table.sort(addresses)
    return { mode = topology.mode, protocol = self.client.protocol, nodes = addresses,
      redirections = self.client.redirected, stores_in_doubt = self.client.doubts }
  end,

  close = function(self)
    self.client:close()
  end,
}

return M
