-- SPDX-License-Identifier: MIT
--
-- neap.policy_lists - columns and lists: the parts that policies use for every event, so all of it is Lua that is
-- compiled together with theirs. See neap.policy_parts.

local check = require 'neap.policy_check'
local ffi = require 'ffi'

local cast, new = ffi.cast, ffi.new
local setmetatable, type, unpack = setmetatable, type, unpack
local blame, no_slot, own, show, whole = check.blame, check.no_slot, check.own, check.show, check.whole
local SLOTS_MAX = check.SLOTS_MAX

ffi.cdef 'typedef struct { int32_t prev, next, where, cursor; } neap_node;'

local parts = {}

-- Set by neap.policy_host: whose a slot is, and the number of the question for victims that is being answered.
local answer = 0
local tenant_of = function()
  blame('list: whose a slot is can be told in an engine only')
end
function parts.set_tenants(function_of_slot)
  tenant_of = function_of_slot
end
function parts.tenant_of(slot)
  return tenant_of(slot)
end
function parts.begin_answer()
  answer = answer + 1
end

--- A number for each slot: `column[slot]`, `column[slot] = value`. All begin as 0.
---@param slots integer
---@param ctype? 'double'|'float'|'int32'|'uint32'|'uint16'|'uint8' 'double' if missing; integers wrap
---@return table<integer, number>
function parts.column(slots, ctype)
  local types = { double = 'double', float = 'float', int32 = 'int32_t', uint32 = 'uint32_t', uint16 = 'uint16_t',
    uint8 = 'uint8_t' }
  local n = whole('column', 'slots', slots, 1, SLOTS_MAX)
  local element = types[ctype or 'double']
  if not element then
    blame('column: type is %s, expected double, float, int32, uint32, uint16 or uint8', show(ctype))
  end
  local memory = new(element .. '[?]', n)
  local at = cast(element .. ' *', memory)
  return setmetatable({}, {
    memory = memory,
    __metatable = false,
    __index = function(_, slot)
      if not (type(slot) == 'number' and slot >= 0 and slot < n) then
        no_slot('column', slot, n)
      end
      return at[slot]
    end,
    __newindex = function(_, slot, value)
      if not (type(slot) == 'number' and slot >= 0 and slot < n) then
        no_slot('column', slot, n)
      elseif type(value) ~= 'number' then
        blame('column: the value of slot %d is %s, expected a number', slot, show(value))
      end
      at[slot] = value
    end,
  })
end

---@class neap.List an order of slots, oldest to newest
---@field push fun(self, slot: integer) makes it the newest, wherever it was
---@field push_oldest fun(self, slot: integer) makes it the oldest, wherever it was
---@field touch fun(self, slot: integer): boolean makes it the newest if it is in this list
---@field has fun(self, slot: integer): boolean it is in this list
---@field count fun(self): integer
---@field oldest fun(self, tenant?: integer): integer? the oldest, or the oldest of a tenant: a walk from the old end
---@field newest fun(self): integer?
---@field newer fun(self, slot: integer): integer? the neighbour on the newer side; nil: none, or not in this list
---@field older fun(self, slot: integer): integer?
---@field take fun(self, slot: integer): integer? takes it out as a victim, if it is in this list; it is still owned
---@field pop fun(self, tenant?: integer): integer? takes the oldest out as a victim
---@field owns fun(self, slot: integer): boolean it is in this list, or was taken out of it as a victim
---@field home fun(self, slot: integer): integer? the number of the list that owns it, among those made together
---@field keep fun(self, slot: integer): boolean makes a slot that the list owns the newest again: for KEEP
---@field remove fun(self, slot: integer): boolean forgets it; whether the list owned it: for REMOVE

--- Lists that share their slots: each slot is in one of them at most, and moves when it is pushed to another. 16 bytes
--- for each slot; every call in constant time, but for the walk of `oldest` and `pop` when they are given a tenant,
--- which is not begun anew within one answer.
---@param slots integer they are for slots 0 .. slots-1
---@param count integer
---@return neap.List ...
function parts.lists(slots, count)
  -- Rings through the nodes 1 .. count; slot s is node s + first. `where` is the list, negative for a victim that was
  -- taken out, 0 for what is not here; of a ring's own node the number of members. `cursor` of a ring's own node: what
  -- is older, itself included, is not of the tenant that was asked for last.
  local n = whole('lists', 'slots', slots, 1, SLOTS_MAX)
  local rings = whole('lists', 'count', count, 1, 64)
  local first = rings + 1
  local memory = new('neap_node[?]', n + first)
  local node = cast('neap_node *', memory)
  local lists = {}

  local function at(slot)
    if not (type(slot) == 'number' and slot >= 0 and slot < n) then
      no_slot('list', slot, n)
    end
    return slot + first
  end

  local function detach(i)
    local ring = node[i].where
    if ring > 0 then
      local prev, next = node[i].prev, node[i].next
      node[prev].next, node[next].prev = next, prev
      node[ring].where = node[ring].where - 1
      if node[ring].cursor == i then
        node[ring].cursor = prev
      end
    end
  end

  local function attach(i, ring, next)
    local prev = node[next].prev
    node[i].prev, node[i].next, node[i].where = prev, next, ring
    node[prev].next, node[next].prev = i, i
    node[ring].where = node[ring].where + 1
  end

  local function make(ring)
    local list = {}
    local asked, asked_for = -1, -1
    node[ring].prev, node[ring].next = ring, ring

    function list.push(_, slot)
      local i = at(slot)
      detach(i)
      attach(i, ring, ring)
    end

    function list.push_oldest(_, slot)
      local i = at(slot)
      detach(i)
      attach(i, ring, node[ring].next)
      asked = -1
    end

    function list.touch(_, slot)
      local i = at(slot)
      if node[i].where ~= ring then
        return false
      end
      detach(i)
      attach(i, ring, ring)
      return true
    end

    function list.has(_, slot)
      return node[at(slot)].where == ring
    end

    function list.owns(_, slot)
      local where = node[at(slot)].where
      return where == ring or where == -ring
    end

    function list.home(_, slot)
      local where = node[at(slot)].where
      return where > 0 and where or where < 0 and -where or nil
    end

    function list.count()
      return node[ring].where
    end

    local function outside(i)
      if i ~= ring then
        return i - first
      end
    end

    local function oldest(tenant)
      if not tenant then
        return node[ring].next
      end
      if asked ~= answer or asked_for ~= tenant then
        asked, asked_for, node[ring].cursor = answer, tenant, ring
      end
      local i = node[node[ring].cursor].next
      while i ~= ring and tenant_of(i - first) ~= tenant do
        node[ring].cursor = i
        i = node[i].next
      end
      return i
    end

    local function take(i)
      detach(i)
      node[i].where = -ring
      return i - first
    end

    function list.oldest(_, tenant)
      return outside(oldest(tenant))
    end

    function list.newest()
      return outside(node[ring].prev)
    end

    function list.newer(_, slot)
      local i = at(slot)
      return node[i].where == ring and outside(node[i].next) or nil
    end

    function list.older(_, slot)
      local i = at(slot)
      return node[i].where == ring and outside(node[i].prev) or nil
    end

    function list.take(_, slot)
      local i = at(slot)
      if node[i].where == ring then
        return take(i)
      end
    end

    function list.pop(_, tenant)
      local i = oldest(tenant)
      if i ~= ring then
        return take(i)
      end
    end

    function list.keep(_, slot)
      local i = at(slot)
      local where = node[i].where
      if where ~= ring and where ~= -ring then
        return false
      end
      detach(i)
      attach(i, ring, ring)
      return true
    end

    function list.remove(_, slot)
      local i = at(slot)
      local where = node[i].where
      if where ~= ring and where ~= -ring then
        return false
      end
      detach(i)
      node[i].where = 0
      return true
    end

    return own(list, memory)
  end

  for ring = 1, rings do
    lists[ring] = make(ring)
  end
  return unpack(lists)
end

--- One list by itself.
---@param slots integer
---@return neap.List
function parts.list(slots)
  return (parts.lists(slots, 1))
end

return parts
