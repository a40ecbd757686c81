-- SPDX-License-Identifier: MIT
--
-- HttpAdapter - objects as files of any web server that takes GET, PUT, HEAD and DELETE, such as nginx with WebDAV.
-- The smallest store over a network: read it as the first lesson. The server must show a PUT only when it is whole, as
-- nginx does. The first store wins among the stores of one neap, and of several if the server minds If-None-Match.

local http = require 'neap.http'
local neap = require 'neap'
local listing = require 'http.listing'

local UNDO_S = 5 -- seconds to take a store back that was cut short

local M = {}

M.HttpAdapterConfig = {
  base_url = { type = 'string', required = true, doc = 'of the directory: http://host:8080/kv/' },
  user = { type = 'string', default = '', live = true, doc = 'for basic authentication' },
  password = { type = 'string', default = '', live = true },
  tls_ca = { type = 'string', default = '', doc = "file with the certificates to trust; without it the system's" },
  unix_socket = { type = 'string', default = '', doc = 'path of the socket that the server listens on' },
  connections = { type = 'integer', min = 1, max = 256, default = 16, live = true },
  timeout = { type = 'number', above = 0, max = 3600, default = 30, live = true, doc = 'seconds for one request' },
  listing = { type = 'string', enum = { 'none', 'nginx' }, default = 'none', doc = 'nginx: autoindex_format json' },
}

local function connect(self, params)
  if not params.base_url:match '^https?://[^/]+/' then
    return nil, 'EINVAL', ("base_url is '%s', expected http://HOST/PATH/"):format(params.base_url)
  end
  local function given(name)
    return params[name] ~= '' and params[name] or nil
  end
  local last = self.client
  self.storing = self.storing or {} -- texts of the keys that are being stored
  self.listing = params.listing
  self.client = http.client {
    base = params.base_url:gsub('/*$', '/', 1), user = given 'user', password = given 'password',
    unix = given 'unix_socket', tls = { ca = given 'tls_ca' }, connections = params.connections,
    timeout = params.timeout,
  }
  return last and last:close() or true -- what is under way with the last one still ends
end

-- The status of a response; of a failure nil, code, message.
local function ask(self, method, key, request)
  request.method, request.path = method, http.escape(key.file)
  local response, code, message = self.client:request(request)
  if not response then
    return nil, code, message
  end
  local status = response.status
  if status < 300 or status == 404 or status == 412 then
    return status, response
  end
  local full, refused = status == 507 or status == 413, status == 401 or status == 403
  return nil, full and 'ENOSPC' or refused and 'EACCES' or 'EIO', ('the server says %d'):format(status)
end

local function put(self, key, buffer)
  local there, code, message = self:lookup(key)
  if there or code then
    return there and 0 or nil, code, message
  end
  self.storing[key.text] = 'sent'
  local status, answer, why = ask(self, 'PUT', key, { body = buffer, headers = { ['If-None-Match'] = '*' } })
  if status == 404 then
    return nil, 'EIO', 'the server has no such directory'
  elseif not status then
    return nil, answer, why
  end
  return status == 412 and 0 or true
end

M.HttpAdapter = neap.adapter {
  concurrency = 16,
  retries = 2,
  backoff = 0.1,
  open = connect,
  reconfigure = connect,

  -- One store of a key at a time, so that the second finds what the first brought.
  store = function(self, key, buffer)
    while self.storing[key.text] do
      neap.sleep(0.001)
    end
    self.storing[key.text] = 'begun'
    local ok, result, code, message = pcall(put, self, key, buffer)
    if self.storing[key.text] == 'sent' and (not ok or code) then -- who knows how far it came: nobody may find it
      pcall(ask, self, 'DELETE', key, { cleanup = true, timeout = UNDO_S })
    end
    self.storing[key.text] = nil
    if not ok then
      error(result, 0)
    end
    return result, code, message
  end,

  lookup = function(self, key)
    local status, answer, why = ask(self, 'HEAD', key, {})
    if not status then
      return nil, answer, why
    end
    return status ~= 404 and (answer.length or true)
  end,

  load = function(self, key, buffer)
    local status, answer, why = ask(self, 'GET', key, { into = buffer })
    if not status then
      return nil, answer == 'EMSGSIZE' and 'ECORRUPT' or answer, why
    elseif status == 200 and answer.bytes ~= buffer:size() then
      return nil, 'ECORRUPT', ('%d bytes, expected %d'):format(answer.bytes, buffer:size())
    end
    return status == 200
  end,

  delete = function(self, key)
    local status, answer, why = ask(self, 'DELETE', key, {})
    if not status then
      return nil, answer, why
    end
    return status ~= 404
  end,

  list = function(self, emit)
    if self.listing == 'none' then
      return nil, 'ENOTSUP', "parameter 'listing' is 'none'"
    end
    return listing(self.client, emit)
  end,
}

return M
