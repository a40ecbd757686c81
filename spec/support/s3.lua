-- SPDX-License-Identifier: MIT
--
-- A real S3 service for specs: versitygw (tests/peers.sh) over a private directory, on a free port of loopback. It dies
-- with the spec that started it.

local driver = require 'spec.support.adapter_driver'
local server = require 'spec.support.server'

local READY_S = 20

local M = {}

M.program = os.getenv 'NEAP_S3_SERVER' or driver.root .. '/build/peers/versitygw'

---Why there is no service to test with, or nil.
function M.missing()
  local file = io.open(M.program, 'rb')
  if not file then return 'no versitygw: tests/peers.sh build/peers builds it' end
  file:close()
end

---@class S3Service
---@field port integer
---@field directory string
local Service = {}
Service.__index = Service

local function serve(self)
  self.pid = server.spawn({
    M.program, '--keep-alive', '--quiet', '--port', '127.0.0.1:' .. self.port, '--access', 'AK', '--secret', 'SK',
    'posix', self.directory .. '/root',
  }, self.directory .. '/log')
  local ready = server.eventually(READY_S, function() return server.listening(self.port) end)
  assert(ready, 'versitygw did not come up')
end

---Starts a service with one empty bucket, "cache".
function M.start()
  local self = setmetatable({ directory = server.directory(), port = server.free_port() }, Service)
  os.execute(("mkdir -p '%s/root/cache'"):format(self.directory))
  serve(self)
  return self
end

---The configuration of an adapter for it; more: further members, as JSON text.
function Service:config(more)
  return ('{"type": "s3", "s3_endpoint": "http://127.0.0.1:%d", "bucket": "cache", "s3_region": "us-east-1", '
    .. '"aws_access_key_id": "AK", "aws_secret_access_key": "SK"%s}'):format(self.port, more and ', ' .. more or '')
end

function Service:kill()
  server.kill(self.pid)
end

function Service:restart() serve(self) end

function Service:discard()
  self:kill()
  server.remove(self.directory)
end

return M
