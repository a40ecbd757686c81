-- SPDX-License-Identifier: MIT
--
-- neap.http - requests to HTTP servers, with bodies from and into buffers.
--
--   local client = http.client { base = 'http://cache:8080/kv/', timeout = 10 }
--   local response, code, message = client:request { method = 'PUT', path = key.file, body = buffer }
--
-- A response of any status is a response; nil, code, message is said when there is none: ETIMEDOUT, ECONNREFUSED,
-- ECONNRESET (closed too early), EMSGSIZE (longer than `into`, or than 65,536 bytes without it), ELOOP (redirects),
-- EPROTO (not HTTP, or TLS that is not trusted). Wrong arguments raise. Clients are made in hooks, for instance in
-- open; connections are kept and used again, at most `connections` of them; requests beyond that wait in line.

local await = require 'neap.await'
local core = require 'neap.core'

---@class neap.HttpOptions
---@field base? string what each path is appended to
---@field headers? table<string, string> for each request
---@field user? string for basic authentication
---@field password? string
---@field tls? { ca?: string, cert?: string, key?: string, verify?: boolean } files in PEM form
---@field timeout? number seconds for a request; 30 without it
---@field connections? integer 16 without it
---@field redirects? integer redirects that are followed; 0 without it
---@field unix? string path of a unix socket that the server listens on
---@field proxy? string URL; without it none is used, whatever the environment says

---@class neap.HttpRequest
---@field method? string 'GET' without it
---@field path? string as it goes into the URL: see http.escape
---@field headers? table<string, string>
---@field body? string|neap.Buffer|{ [1]: neap.Buffer, [2]: integer?, [3]: integer? } buffer, offset, length
---@field into? neap.Buffer|{ [1]: neap.Buffer, [2]: integer?, [3]: integer? } for the body of a 2xx response
---@field timeout? number seconds
---@field cleanup? boolean is made, and its response told, even after the operation was canceled

---@class neap.HttpResponse
---@field status integer
---@field headers table<string, string> names in lower case
---@field bytes integer of the body, as received
---@field length? integer of the body, as the server announces it (also for HEAD)
---@field text? string the body, if it went nowhere else

---@class neap.HttpClient
---@field private handle userdata
local Client = {}
Client.__index = Client

local http = {}

local options = {
  base = 'string', headers = 'table', user = 'string', password = 'string', tls = 'table', timeout = 'number',
  connections = 'number', redirects = 'number', unix = 'string', proxy = 'string',
}
local fields = {
  method = 'string', path = 'string', headers = 'table', timeout = 'number', body = 'any', into = 'any',
  cleanup = 'boolean',
}
local tls_fields = { ca = 'string', cert = 'string', key = 'string', verify = 'boolean' }

local function check(where, given, known)
  if type(given) ~= 'table' then
    error(('%s: got a %s, expected a table'):format(where, type(given)), 3)
  end
  for name, value in pairs(given) do
    if not known[name] then
      error(("%s: '%s' is unknown"):format(where, tostring(name)), 3)
    elseif known[name] ~= 'any' and type(value) ~= known[name] then
      error(("%s: '%s' is a %s, expected a %s"):format(where, name, type(value), known[name]), 3)
    end
  end
end

local function check_range(where, name, value, low, high)
  if not (value >= low and value <= high) then
    error(("%s: '%s' is %s, expected %s to %s"):format(where, name, tostring(value), low, high), 3)
  end
end

-- Appends 'Name: value' for each; a line break would smuggle another header in.
local function add_headers(list, headers)
  for name, value in pairs(headers or {}) do
    name, value = tostring(name), tostring(value)
    if not name:match "^[%w!#$%%&'*+.^_`|~-]+$" or value:find '[%c]' then
      error(("neap.http: '%s: %s' is not a header"):format(name, value), 4)
    end
    list[#list + 1] = value == '' and name .. ';' or name .. ': ' .. value
  end
end

local request = await(core.http_request)

-- buffer, offset, length of a buffer or of { buffer, offset, length }.
local function part(value)
  if type(value) == 'table' then
    return value[1], value[2], value[3]
  end
  return value
end

---@param given neap.HttpOptions
---@return neap.HttpClient
function http.client(given)
  check('neap.http.client', given, options)
  check('neap.http.client: tls', given.tls or {}, tls_fields)
  local timeout, connections, redirects = given.timeout or 30, given.connections or 16, given.redirects or 0
  check_range('neap.http.client', 'timeout', timeout, 0.001, 86400)
  check_range('neap.http.client', 'connections', connections, 1, 4096)
  check_range('neap.http.client', 'redirects', redirects, 0, 50)
  local headers = { 'Expect:' } -- no round trip before a body
  add_headers(headers, given.headers)
  local tls = given.tls or {}
  local handle = core.http_client {
    user = given.user, password = given.password, unix = given.unix, proxy = given.proxy, connections = connections,
    redirects = redirects, tls_ca = tls.ca, tls_cert = tls.cert, tls_key = tls.key, tls_insecure = tls.verify == false,
  }
  return setmetatable({ handle = handle, base = given.base or '', headers = headers, timeout = timeout }, Client)
end

--- Awaits.
---@param given neap.HttpRequest
---@return neap.HttpResponse?
---@return string? code
---@return string? message
function Client:request(given)
  check('neap.http: request', given, fields)
  local timeout = given.timeout or self.timeout
  check_range('neap.http: request', 'timeout', timeout, 0.001, 86400)
  local method, url, headers = given.method or 'GET', self.base .. (given.path or ''), self.headers
  if not method:match '^%u+$' then
    error(("neap.http: request: 'method' is '%s', expected a word such as 'GET'"):format(method), 2)
  elseif url:find '[^\33-\126]' then
    error(("neap.http: request: the URL '%s' has characters that must be escaped"):format(url), 2)
  end
  if given.headers then
    headers = { unpack(self.headers) }
    add_headers(headers, given.headers)
  end
  local body, body_offset, body_length = part(given.body)
  local into, into_offset, into_length = part(given.into)
  return request(self.handle, method, url, headers, timeout * 1000, body, body_offset, body_length, into, into_offset,
    into_length, given.cleanup)
end

--- Closes the connections when the last request is through.
function Client:close()
  core.http_close(self.handle)
end

--- Text as one part of a path: what is not a letter, a digit or one of -._~ becomes %XX.
---@param text string
---@return string
function http.escape(text)
  return (text:gsub('[^%w%-._~]', function(character)
    return ('%%%02X'):format(character:byte())
  end))
end

return http
