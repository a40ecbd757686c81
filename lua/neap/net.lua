-- SPDX-License-Identifier: MIT
--
-- neap.net - stream sockets for stores: TCP and unix, with or without TLS. An operating error is nil, a code
-- ('ECONNREFUSED', 'EOF'), and a sentence; wrong arguments raise. Payload goes between the socket and buffers without
-- becoming a string. A connection whose read or write failed or was canceled is closed: what else it would carry cannot
-- be told from the rest of that. close does not await; it also works after the operation was canceled.

local await = require 'neap.await'
local core = require 'neap.core'

---@class neap.TlsOptions
---@field ca? string file with the certificates to trust; the system's if missing
---@field verify? boolean true if missing (a listener: if there is a `ca`)
---@field server_name? string what the server's certificate must be for; `host` if missing
---@field cert? string file with our certificate and those that it is signed by
---@field key? string file with its key; `cert` if missing

---@class neap.ConnectOptions
---@field host? string
---@field port? integer
---@field path? string of a unix socket, instead of host and port
---@field tls? neap.TlsOptions|true
---@field timeout? number seconds for all of it: look-up, every address, TLS

---@class neap.net
local net = {}

-- Reading certificates takes milliseconds, and they change: contexts are kept, for a while.
local CONTEXT_SECONDS, CONTEXTS_MAX = 60, 16
local contexts, context_count = {}, 0

local expected = {
  host = 'string', port = 'number', path = 'string', timeout = 'number', ca = 'string', server_name = 'string',
  cert = 'string', key = 'string', verify = 'boolean',
}

local function check(where, options, names)
  if type(options) ~= 'table' then
    error(('%s: got a %s, expected a table of options'):format(where, type(options)), 3)
  end
  for name, value in pairs(options) do
    if not names[name] then
      error(("%s: unknown option '%s'"):format(where, tostring(name)), 3)
    elseif expected[name] and type(value) ~= expected[name] then
      error(('%s: %s is a %s, expected a %s'):format(where, name, type(value), expected[name]), 3)
    end
  end
end

local tls_names = { ca = true, verify = true, server_name = true, cert = true, key = true }

local function context_for(where, options, server)
  if options == nil or options == false then
    return nil
  end
  options = options == true and {} or options
  check(where .. ' tls', options, tls_names)
  local name = table.concat({ options.ca or '', tostring(options.verify), options.cert or '', options.key or '',
    tostring(server) }, '\0')
  local known = contexts[name]
  if known and core.now() - known.at < CONTEXT_SECONDS then
    return known.context
  end
  local context, code, message = core.tls_context(options, server)
  if not context then
    return nil, code, message
  end
  if not known then
    if context_count == CONTEXTS_MAX then
      contexts, context_count = {}, 0
    end
    context_count = context_count + 1
  end
  contexts[name] = { context = context, at = core.now() }
  return context
end

local function target(where, options)
  if options.path then
    return options.path
  elseif not options.host or not options.port then
    error(where .. ': expected host and port, or path', 3)
  end
  return (options.host:find(':', 1, true) and '[%s]:%d' or '%s:%d'):format(options.host, options.port)
end

local connect_names = { host = true, port = true, path = true, tls = true, timeout = true }
local connect = await(core.net_connect)

--- Awaits.
---@param options neap.ConnectOptions
---@return neap.Connection?
---@return string? code
---@return string? message
function net.connect(options)
  check('neap.net.connect', options, connect_names)
  local label = 'connect ' .. target('neap.net.connect', options)
  local context, code, message = context_for('neap.net.connect', options.tls, false)
  if code then
    return nil, code, label .. ': ' .. message
  end
  local server_name = context and (type(options.tls) == 'table' and options.tls.server_name or options.host
    or 'localhost') or nil
  return connect(label, options.path, options.host, options.port, options.timeout, context, server_name)
end

--- The addresses of a host as texts, in the order in which they should be tried. Awaits.
---@type fun(host: string): string[]?, string?, string?
net.resolve = await(core.net_resolve)

local listen_names = { host = true, port = true, path = true, tls = true }
local listener_tls = setmetatable({}, { __mode = 'k' })

--- For tests and tools. host is an address; port 0 takes a free one. Does not await.
---@param options { host?: string, port?: integer, path?: string, tls?: neap.TlsOptions }
---@return neap.Listener?
---@return string? code
---@return string? message
function net.listen(options)
  check('neap.net.listen', options, listen_names)
  local label = 'listen ' .. target('neap.net.listen', options)
  local context, code, message = context_for('neap.net.listen', options.tls, true)
  if code then
    return nil, code, label .. ': ' .. message
  end
  local listener
  listener, code, message = core.net_listen(label, options.path, options.host, options.port)
  if listener then
    listener_tls[listener] = context
  end
  return listener, code, message
end

local accept = await(core.net_accept)

function core.listener_methods:accept()
  return accept(self, listener_tls[self])
end

core.listener_methods.port = core.net_port
core.listener_methods.close = core.net_unlisten

for _, name in ipairs { 'write', 'read_exactly', 'read_exactly_into', 'read_until', 'shutdown' } do
  core.conn_methods[name] = await(core['conn_' .. name])
end
for _, name in ipairs { 'close', 'peer', 'idle' } do
  core.conn_methods[name] = core['conn_' .. name]
end

return net
