-- SPDX-License-Identifier: MIT
--
-- redis.topology - the nodes that are known, and which of them serves a key: one server, or the slots of a cluster.
-- What it promises: a look at the topology asks each known node at most once, not more often than every fifth of a
-- second, and once for all who wait; nodes that left are closed. Functions that ask a server await.

local neap = require 'neap'
local node = require 'redis.node'
local slots = require 'redis.slots'
local wire = require 'redis.wire'

local REFRESH_S = 0.2

---@class redis.Topology
---@field mode 'standalone'|'cluster'
---@field nodes table<string, redis.Node> by address
---@field owners table<integer, string[]> by slot, the master first
---@field stale boolean owners are known to be wrong
---@field better? string address of a node that knows better
local Topology = {}
Topology.__index = Topology

local topology = {}

function Topology:node(address)
  local known = self.nodes[address]
  if not known then
    known = node.new(self.options, address)
    self.nodes[address] = known
  end
  return known
end

-- Nodes that are no longer part of the cluster.
local function forget_strangers(self)
  local members = {}
  for _, owners in pairs(self.owners) do
    for _, address in ipairs(owners) do
      members[address] = true
    end
  end
  for address, stranger in pairs(self.nodes) do
    if not members[address] then
      self.nodes[address] = nil
      stranger:close()
    end
  end
end

local function ask_topology(self, address)
  local asked = self:node(address)
  local replies, code, message = asked:with(function(ask) return ask(wire.command('CLUSTER', 'SLOTS')) end)
  if not replies then
    return nil, code, message
  elseif wire.is_error(replies[1]) then
    return nil, 'EIO', replies[1].text
  end
  local owners, wrong = slots.parse(replies[1], asked.host)
  return owners, 'EIO', wrong
end

-- Whom to ask, the best first: who is said to know better, who is known, who was configured.
local function sources(self)
  local addresses, seen = {}, {}
  local function add(address)
    if address and not seen[address] then
      addresses[#addresses + 1], seen[address] = address, true
    end
  end
  add(self.better)
  for address in pairs(self.nodes) do
    add(address)
  end
  for _, address in ipairs(self.options.seeds) do
    add(address)
  end
  return addresses
end

---Learns which node serves which slot.
---@return true? done
---@return string? code
---@return string? message
function Topology:refresh()
  if self.refreshing or self.refreshed_at and neap.now() - self.refreshed_at < REFRESH_S then
    return true
  end
  local code, message = 'EIO', 'no node is known'
  self.refreshing, self.refreshed_at = true, neap.now()
  local ok, failure = pcall(function()
    for _, address in ipairs(sources(self)) do
      local owners
      owners, code, message = ask_topology(self, address)
      if owners then
        self.owners, self.stale, self.better = owners, false, nil
        forget_strangers(self)
        return
      end
    end
  end)
  self.refreshing = false
  if not ok then
    error(failure, 0)
  end
  return not self.stale or nil, code, message
end

---The nodes that together hold everything.
---@return redis.Node[]
function Topology:masters()
  if self.mode == 'standalone' then
    return { self:node(self.options.seeds[1]) }
  end
  local masters, seen = {}, {}
  for slot = 0, slots.COUNT - 1 do
    local address = self.owners[slot] and self.owners[slot][1]
    if address and not seen[address] then
      masters[#masters + 1], seen[address] = self:node(address), true
    end
  end
  return masters
end

---The node that a request goes to; nil if nobody serves its slot.
---@param request table
---@return redis.Node?
function Topology:route(request)
  if request.via then
    return self:node(request.via)
  elseif self.mode == 'standalone' then
    return self:node(self.options.seeds[1])
  end
  request.slot = request.slot or slots.of(request.name)
  local owners = self.owners[request.slot]
  if not owners then
    return nil
  elseif request.kind ~= 'load' or not self.options.replica_reads or #owners == 1 or request.master_only then
    return self:node(owners[1])
  end
  request.replica = true
  self.turn = self.turn + 1
  return self:node(owners[2 + self.turn % (#owners - 1)])
end

---One node that has become the owner of a slot.
---@param slot integer
---@param address string
function Topology:moved(slot, address)
  self.owners[slot], self.stale, self.better = { address }, true, address
end

function Topology:close()
  for _, known in pairs(self.nodes) do
    known:close()
  end
end

---@param options table as redis.node takes it, and seeds: addresses
---@return redis.Topology
function topology.new(options)
  return setmetatable({ options = options, mode = 'standalone', nodes = {}, owners = {}, stale = false, turn = 0 },
    Topology)
end

return topology
