-- SPDX-License-Identifier: MIT
--
-- Real Redis servers for specs: one over TCP, a unix socket and TLS, or a cluster of three masters with replicas. Each
-- has a private directory and free ports; they die with the spec.

local process = require 'spec.support.server'

local READY_S = 30
local CLUSTER_NODES = 6

local M = {}

local function succeeds(command)
  return os.execute(command) == 0
end

local function program(name)
  local pipe = assert(io.popen('command -v ' .. name))
  local path = pipe:read '*l'
  pipe:close()
  return path
end

M.server_path, M.cli_path = program 'redis-server', program 'redis-cli'

---Why there is no Redis to test with, or nil.
function M.missing()
  return not (M.server_path and M.cli_path) and 'redis-server and redis-cli are not installed' or nil
end

local function json(value)
  if type(value) ~= 'table' then
    return type(value) == 'string' and '"' .. value .. '"' or tostring(value)
  end
  local members = {}
  for name, member in pairs(value) do
    members[#members + 1] = (#value > 0 and '' or '"' .. name .. '":') .. json(member)
  end
  return (#value > 0 and '[%s]' or '{%s}'):format(table.concat(members, ','))
end

---An adapter with these parameters; nil and why not.
---@param params table
---@return spec.Driver?
---@return string?
function M.open(params)
  local driver = require 'spec.support.adapter_driver' -- loads neap, which specs that start it as a process cannot
  params.type = params.type or 'redis'
  return driver.open_config(json(params), driver.root .. '/adapters')
end

---@class spec.Redis
---@field port? integer
---@field path? string
local Redis = {}
Redis.__index = Redis

---The output of redis-cli, without the last line end.
function Redis:cli(...)
  local words = { 'LD_PRELOAD=', M.cli_path, '--no-auth-warning', '-s', self.path }
  if self.password then
    words[#words + 1] = ("-a '%s'"):format(self.password)
  end
  for _, word in ipairs { ... } do
    words[#words + 1] = "'" .. tostring(word):gsub("'", "'\\''") .. "'"
  end
  local pipe = assert(io.popen(table.concat(words, ' ') .. ' 2>&1'))
  local text = pipe:read '*a'
  pipe:close()
  return (text:gsub('\n$', ''))
end

function Redis:launch()
  self.pid = process.spawn(self.argv, self.directory .. '/log', { LD_PRELOAD = '' })
end

function Redis:await()
  local up = process.eventually(READY_S, function()
    return self:cli 'PING' == 'PONG'
  end)
  assert(up, 'redis-server did not come up: ' .. process.read(self.directory .. '/log'))
end

function Redis:start()
  self:launch()
  self:await()
end

---kill -9, waited for.
function Redis:kill()
  if self.pid then
    process.kill(self.pid)
    self.pid = nil
  end
end

function Redis:discard()
  self:kill()
  process.remove(self.directory)
end

local function certificate(directory)
  local command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
    .. "-subj /CN=localhost -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -keyout %s/key.pem -out %s/cert.pem"
  assert(succeeds(('LD_PRELOAD= %s 2>/dev/null'):format(command:format(directory, directory))), 'openssl failed')
end

---@param options? { args?: string[], tls?: boolean, password?: string, wait?: boolean }
---@return spec.Redis
function M.new(options)
  options = options or {}
  local self = setmetatable({ directory = process.directory(), password = options.password }, Redis)
  self.port, self.path = process.free_port(), self.directory .. '/socket'
  local words = {
    '--port', options.tls and 0 or self.port, '--bind', '127.0.0.1', '--unixsocket', self.path, '--dir',
    self.directory, '--save', '', '--appendonly', 'no', '--loglevel', 'warning',
  }
  if options.tls then
    certificate(self.directory)
    for _, word in ipairs { '--tls-port', self.port, '--tls-auth-clients', 'no', '--tls-cert-file',
      self.directory .. '/cert.pem', '--tls-key-file', self.directory .. '/key.pem' } do
      words[#words + 1] = word
    end
  end
  if options.password then
    words[#words + 1] = '--requirepass'
    words[#words + 1] = options.password
  end
  self.argv = { M.server_path }
  for _, list in ipairs { words, options.args or {} } do
    for _, word in ipairs(list) do
      self.argv[#self.argv + 1] = tostring(word)
    end
  end
  return self
end

---One server, up.
function M.start(options)
  local self = M.new(options)
  self:start()
  return self
end

---@class spec.RedisCluster
---@field nodes spec.Redis[]
local Cluster = {}
Cluster.__index = Cluster

function Cluster:cli(...)
  return self.nodes[1]:cli(...)
end

-- Every node knows the same six, and all of them serve. A replica is listed when data reached it.
local function settled(self)
  for _, node in ipairs(self.nodes) do
    local seen, listed = {}, 0
    for port in node:cli('CLUSTER', 'SLOTS'):gmatch '127%.0%.0%.1\n(%d+)' do
      listed = listed + (seen[port] and 0 or 1)
      seen[port] = true
    end
    if listed ~= CLUSTER_NODES or not node:cli('CLUSTER', 'INFO'):find 'cluster_state:ok' then
      return false
    end
  end
  return true
end

---Three masters and a replica of each, which agree about the slots.
---@return spec.RedisCluster
function M.start_cluster()
  local self = setmetatable({ nodes = {} }, Cluster)
  local addresses = {}
  for i = 1, CLUSTER_NODES do
    local node = M.new { args = { '--cluster-enabled', 'yes', '--cluster-port', process.free_port(),
      '--cluster-node-timeout', 2000, '--repl-diskless-sync-delay', 0, '--repl-ping-replica-period', 1 } }
    node:launch()
    self.nodes[i], addresses[i] = node, '127.0.0.1:' .. node.port
  end
  for _, node in ipairs(self.nodes) do
    node:await()
  end
  local words = { '--cluster', 'create', '--cluster-replicas', '1', '--cluster-yes' }
  for i, address in ipairs(addresses) do
    table.insert(words, 2 + i, address)
  end
  local said = self.nodes[1]:cli(unpack(words))
  local ok, failure = pcall(self.await, self)
  if not ok then
    self:discard()
    error(said .. failure)
  end
  return self
end

---What each node thinks, for a spec that fails.
function Cluster:opinions()
  local words = {}
  for _, node in ipairs(self.nodes) do
    words[#words + 1] = ('%d: %s\n%s'):format(node.port, node:cli('CLUSTER', 'INFO'):match 'cluster_state:%w+' or '?',
      node:cli('CLUSTER', 'NODES'))
  end
  return table.concat(words, '\n\n')
end

---Waits until all nodes serve. Raises if they do not in time.
function Cluster:await()
  assert(process.eventually(READY_S, function() return settled(self) end),
    'the cluster is not in order:\n' .. self:opinions())
end

---Waits until the replicas have what the masters have now. (WAIT would wait for what its own connection wrote.)
function Cluster:replicate()
  local written = {} -- by port of the master
  for _, node in ipairs(self.nodes) do
    written[node.port] = tonumber(node:cli('ROLE'):match '^master\n(%d+)')
  end
  for _, node in ipairs(self.nodes) do
    local followed = process.eventually(READY_S, function()
      local master, offset = node:cli('ROLE'):match '^slave\n[^\n]*\n(%d+)\n%a+\n(%d+)'
      return written[node.port] or master and tonumber(offset) >= (written[tonumber(master)] or math.huge)
    end)
    assert(followed, 'a replica is behind')
  end
end

function Cluster:discard()
  for _, node in ipairs(self.nodes) do
    node:discard()
  end
end

return M
