-- SPDX-License-Identifier: MIT
--
-- redis.client - requests to the nodes that serve their keys, until each has a result. What it promises: a request ends
-- with a result after a bounded number of attempts, whatever the servers answer; a store that failed is not visible to
-- what this client asks later. It follows redirections, has the topology of a cluster learned anew when it is wrong or
-- a node is lost, and does again what is safe to do again. Everything here awaits.
--
-- Stores in doubt. When a connection is lost between a SET and its reply, nobody knows whether the server has executed
-- it, or will: what was sent may still lie in the server's socket. Its key is remembered; the next request for it ends
-- that connection at the server (CLIENT KILL) and removes the key before it does anything else.

local neap = require 'neap'
local slots = require 'redis.slots'
local topology = require 'redis.topology'
local wire = require 'redis.wire'

local REDIRECTIONS_MAX = 5
local ATTEMPTS_MAX = 7
local PAUSE_S = 0.05 -- doubled by each attempt that has to wait
local DOUBTS_MAX = 65536
local PIPELINES_MAX = 64 -- at once, for one operation
local SLICE_BYTES = 4 * 2 ^ 20 -- of payload for one connection, at least

local codes = {
  OOM = 'ENOSPC', NOAUTH = 'EPERM', WRONGPASS = 'EPERM', NOPERM = 'EPERM', WRONGTYPE = 'ECORRUPT',
}

---@class redis.Client
---@field topology redis.Topology
local Client = {}
Client.__index = Client

local client = {}

local function settle(request, result, code, message)
  request.settled, request.result, request.code, request.message = true, result, code, message
end

-- Remembers that a store may have happened, or may yet happen.
local function doubt(self, request)
  if self.doubts >= DOUBTS_MAX then
    self.doubtful[next(self.doubtful)] = nil
    self.doubts = self.doubts - 1
  end
  if not self.doubtful[request.name] then
    self.doubts = self.doubts + 1
  end
  self.doubtful[request.name] = { address = request.target.address, id = request.lost and request.lost.closed_by_us }
end

-- What is to be sent before the command itself so that nothing in doubt is seen; or nil.
local function certainty(self, request, target)
  local case = self.doubtful[request.name]
  if not case then
    return nil
  elseif case.id and case.address == target.address then
    return { wire.command('CLIENT', 'KILL', 'ID', case.id) }
  end
  return {}
end

local function clear_doubt(self, request)
  if request.cleared and self.doubtful[request.name] then
    self.doubtful[request.name] = nil
    self.doubts = self.doubts - 1
  end
end

local function again_later(request, text)
  request.pause = true
  request.excuse = text
end

local function redirect(self, request, reply)
  local slot, address = slots.redirection(reply.text, request.target.host)
  request.redirections = (request.redirections or 0) + 1
  if self.topology.mode ~= 'cluster' then
    return settle(request, nil, 'EIO', 'the server is part of a cluster now: ' .. reply.text)
  elseif not slot then
    return settle(request, nil, 'EIO', 'a redirection to nowhere: ' .. reply.text)
  elseif request.redirections > REDIRECTIONS_MAX then
    return settle(request, nil, 'EIO', ('redirected more than %d times: %s'):format(REDIRECTIONS_MAX, reply.text))
  end
  self.redirected = self.redirected + 1
  if reply.name == 'ASK' then
    request.via, request.asking = address, true
  else
    self.topology:moved(slot, address)
  end
end

local function take_error(self, request, reply)
  local name = reply.name
  if name == 'MOVED' or name == 'ASK' then
    redirect(self, request, reply)
  elseif name == 'TRYAGAIN' then
    request.via, request.asking = request.target.address, request.was_asking
    again_later(request, reply.text)
  elseif name == 'CLUSTERDOWN' or name == 'MASTERDOWN' or (name == 'READONLY' and self.topology.mode == 'cluster') then
    self.topology.stale = true
    again_later(request, reply.text)
  else
    settle(request, nil, codes[name] or 'EIO', reply.text)
  end
end

-- No reply came. That says nothing if the connection had been idle, which the server may have closed long ago, or was
-- dropped for the sake of another request.
local function take_loss(self, request)
  local lost = request.lost
  if request.kind == 'store' and request.sent then
    doubt(self, request)
  end
  request.losses = (request.losses or 0) + 1
  self.topology.stale = self.topology.stale or self.topology.mode == 'cluster'
  if not lost.blameless and (self.topology.mode ~= 'cluster' or request.losses > 1) then
    settle(request, nil, lost.code or 'EIO', lost.message)
  end
  request.excuse = lost.message
end

-- A replica may be behind: only its yes counts.
local function ask_master_instead(request)
  local no = request.lost or request.reply == wire.null or wire.is_error(request.reply)
  if request.replica and no then
    request.master_only = true
    return true
  end
  return false
end

local function conclude(self, request)
  local reply = request.reply
  clear_doubt(self, request)
  request.via, request.was_asking, request.asking = nil, request.asking, nil
  if ask_master_instead(request) then
    return
  elseif reply == nil then
    take_loss(self, request)
  elseif wire.is_error(reply) then
    take_error(self, request, reply)
  elseif request.doubt and not request.cleared then
    settle(request, nil, 'EIO', 'what an earlier store may have left could not be removed')
  else
    settle(request, reply)
  end
end

-- Splits the requests for one node when they are worth more than one connection.
local function slices(requests, connections, into)
  local bytes = 0
  for _, request in ipairs(requests) do
    bytes = bytes + (request.buffer and request.bytes or 0)
  end
  local n = math.max(1, math.min(connections, #requests, math.floor(bytes / SLICE_BYTES)))
  for i = 1, n do
    local slice = {}
    for k = math.floor((i - 1) * #requests / n) + 1, math.floor(i * #requests / n) do
      slice[#slice + 1] = requests[k]
    end
    into[#into + 1] = slice
  end
end

-- The requests by node, as pipelines.
local function plan(self, pending)
  local groups, order, pipelines = {}, {}, {}
  for _, request in ipairs(pending) do
    request.replica, request.reply, request.lost, request.sent, request.cleared = nil, nil, nil, nil, nil
    request.target, request.pause = self.topology:route(request), nil
    if not request.target then
      self.topology.stale = true
      again_later(request, 'no node of the cluster serves the slot of the key')
    else
      request.doubt = certainty(self, request, request.target)
      if not groups[request.target] then
        groups[request.target] = {}
        order[#order + 1] = request.target
      end
      table.insert(groups[request.target], request)
    end
  end
  for _, target in ipairs(order) do
    slices(groups[target], self.options.connections, pipelines)
  end
  return pipelines
end

-- All at once, some at a time. The first that raised is raised when all have ended.
local function run_pipelines(self, pipelines)
  local failure
  local function run(requests)
    local ok, why = pcall(requests[1].target.pipeline, requests[1].target, requests, self.set_options)
    failure = failure or not ok and why
  end
  for first = 1, #pipelines, PIPELINES_MAX do
    local tasks = {}
    for i = first, math.min(first + PIPELINES_MAX - 1, #pipelines) do
      tasks[#tasks + 1] = function() run(pipelines[i]) end
    end
    if #tasks == 1 then
      tasks[1]()
    else
      neap.all(tasks)
    end
    if failure then
      error(failure, 0)
    end
  end
end

local function attempt(self, pending)
  run_pipelines(self, plan(self, pending))
  local open, pause = {}, false
  for _, request in ipairs(pending) do
    if request.target then
      conclude(self, request)
    end
    if not request.settled then
      open[#open + 1] = request
      pause = pause or request.pause
    end
  end
  return open, pause
end

local function run(self, requests)
  local pending, pause_s = requests, PAUSE_S
  for _ = 1, ATTEMPTS_MAX do
    local pause
    if self.topology.stale then
      self.topology:refresh()
    end
    pending, pause = attempt(self, pending)
    if #pending == 0 then
      return
    elseif pause then
      neap.sleep(pause_s)
      pause_s = pause_s * 2
    end
  end
  for _, request in ipairs(pending) do
    settle(request, nil, 'EIO', ('gave up after %d attempts: %s'):format(ATTEMPTS_MAX, tostring(request.excuse)))
  end
end

---Gives every request a result: request.result, or request.code and request.message. When the hook is to end it
---raises, and whatever was stored counts as failed.
---@param requests table[]
function Client:run(requests)
  local ok, failure = pcall(run, self, requests)
  if ok then
    return
  end
  for _, request in ipairs(requests) do
    if request.kind == 'store' and request.sent and request.reply ~= wire.null then
      doubt(self, request)
    end
  end
  error(failure, 0)
end

function Client:close()
  self.topology:close()
end

-- Whether the first seed that answers is part of a cluster.
local function probe(self)
  local code, message
  for _, address in ipairs(self.options.seeds) do
    local replies
    replies, code, message = self.topology:node(address):with(function(ask, known)
      self.version, self.protocol = known.version, known.protocol
      return ask(wire.command('INFO', 'cluster'))
    end)
    if replies and not wire.is_error(replies[1]) then
      return tostring(replies[1]):find('cluster_enabled:1', 1, true) and 'cluster' or 'standalone'
    elseif replies then
      code, message = codes[replies[1].name] or 'EIO', replies[1].text
    end
    message = ('%s: %s'):format(address, message)
  end
  return nil, code, message
end

---Connects. Awaits.
---@param options table as redis.node takes it, and seeds (addresses), cluster ('auto'|'yes'|'no'), ttl
---@return redis.Client?
---@return string? code
---@return string? message
function client.open(options)
  local self = setmetatable({ options = options, topology = topology.new(options), doubtful = {}, doubts = 0,
    redirected = 0, set_options = { 'NX' } }, Client)
  if options.ttl > 0 then
    self.set_options = { 'NX', 'PX', ('%.0f'):format(options.ttl * 1000) }
  end
  local mode, code, message = probe(self)
  if not mode then
    self:close()
    return nil, code, message
  end
  self.topology.mode = options.cluster == 'auto' and mode or options.cluster == 'yes' and 'cluster' or 'standalone'
  if self.topology.mode == 'cluster' then
    self.topology.stale = true
    mode, code, message = self.topology:refresh()
    if not mode then
      self:close()
      return nil, code, message
    end
  end
  return self
end

return client
