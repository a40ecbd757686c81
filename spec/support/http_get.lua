-- SPDX-License-Identifier: MIT
--
-- GET of a server's HTTP port without a process of its own, for specs that ask often, and of a server that may die in
-- the middle of its answer.

local ffi = require 'ffi'
local json = require 'spec.support.json'
require 'spec.support.server' -- declares socket, connect and close

ffi.cdef [[
long send(int fd, const void *data, size_t bytes, int flags);
long recv(int fd, void *data, size_t bytes, int flags);
int setsockopt(int fd, int level, int name, const void *value, unsigned bytes);
struct neap_timeval { long s; long us; };
]]

local C = ffi.C
local SOL_SOCKET, SO_RCVTIMEO, MSG_NOSIGNAL = 1, 20, 0x4000
local TIMEOUT_S = 20

local M = {}

-- All that comes until the server closes.
local function receive(fd)
  local parts, buffer = {}, ffi.new 'char[65536]'
  while true do
    local bytes = tonumber(C.recv(fd, buffer, 65536, 0))
    if bytes <= 0 then return table.concat(parts) end
    parts[#parts + 1] = ffi.string(buffer, bytes)
  end
end

---@param running Server
---@param path string
---@return integer? status # nil: the server did not answer, or not to the end
---@return string? body
function M.get(running, path)
  local fd = C.socket(2, 1, 0)
  assert(fd >= 0, 'no socket')
  C.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, ffi.new('struct neap_timeval', { TIMEOUT_S, 0 }), 16)
  local address = ffi.new('struct neap_sockaddr',
    { family = 2, port = C.htons(running.http_port), address = 0x0100007f })
  local request = ('GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'):format(path)
  local sent = C.connect(fd, address, ffi.sizeof(address)) == 0 and
    C.send(fd, request, #request, MSG_NOSIGNAL) == #request
  local answer = sent and receive(fd) or ''
  C.close(fd)
  local status, headers, body = answer:match '^HTTP/1%.1 (%d+) [^\r]*\r\n(.-)\r\n\r\n(.*)$'
  local length = headers and tonumber(headers:lower():match 'content%-length: (%d+)')
  if not length or #body ~= length then return nil end
  return tonumber(status), body
end

---A decoded answer of 200, nil for anything else.
function M.get_json(running, path)
  local status, body = M.get(running, path)
  return status == 200 and json.decode(body) or nil
end

---What the first tier's store lists: a set of names, and how many. nil: it could not be asked.
---@param running Server
---@return table<string, boolean>? names
---@return integer? count
function M.objects(running)
  local page = M.get_json(running, '/cache/objects?page_size=5000')
  if not page then return nil end
  assert(page.next_page_token == json.null, 'more than a page')
  local names = {}
  for _, entry in ipairs(page.entries) do names[entry.key.chunk_hash_hex] = true end
  return names, #page.entries
end

return M
