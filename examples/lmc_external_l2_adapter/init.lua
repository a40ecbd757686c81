-- SPDX-License-Identifier: MIT
--
-- InMemoryL2Adapter - a second-level store in memory, the counterpart of LMCache's lmc_external_l2_adapter example.
-- It keeps objects in C buffers, gives each transfer the time it would take at mock_bandwidth_gb, and makes room by
-- dropping the oldest objects.

local neap = require 'neap'

local M = {}

local GIB = 1024 ^ 3

M.InMemoryL2AdapterConfig = {
  max_size_gb = { type = 'number', required = true, above = 0, doc = 'capacity in GiB' },
  mock_bandwidth_gb = { type = 'number', required = true, above = 0, doc = 'simulated bandwidth in GiB/s' },
}

-- A number as Python prints a float: the shortest digits that read back as the same number, with a point.
local function pyfloat(x)
  for digits = 1, 17 do
    local text = ('%.' .. digits .. 'g'):format(x)
    if tonumber(text) == x then
      if text:find 'e' and math.abs(x) >= 1e-4 and math.abs(x) < 1e16 then
        text = ('%.0f'):format(x)
      end
      return text:find '[.e]' and text or text .. '.0'
    end
  end
end

-- Takes the time that moving so many bytes over one link takes, behind the transfers before it. Other operations go on
-- meanwhile. Less than a millisecond, which timers cannot tell, is left to the next transfer to wait for.
local function transfer(self, bytes)
  self.link_free_at = math.max(self.link_free_at, neap.now()) + bytes / self.bytes_per_s
  local wait = self.link_free_at - neap.now()
  if wait >= 0.001 then
    neap.sleep(wait)
  end
end

local function drop(self, id)
  local object = self.objects[id]
  self.objects[id] = nil
  self.order[object.place] = nil
  self.used = self.used - object.buffer:size()
  self.count = self.count - 1
  object.buffer:free()
end

-- The order has holes where objects were deleted.
local function drop_oldest(self)
  local id
  repeat
    id = self.order[self.oldest]
    self.oldest = self.oldest + 1
  until id
  drop(self, id)
  self.evicted = self.evicted + 1
end

local function insert(self, id, buffer)
  self.newest = self.newest + 1
  self.order[self.newest] = id
  self.objects[id] = { buffer = buffer, place = self.newest, stored_at = os.time() }
  self.used = self.used + buffer:size()
  self.count = self.count + 1
end

M.InMemoryL2Adapter = neap.adapter {
  version = '1.0',

  open = function(self, params)
    self.capacity = math.floor(params.max_size_gb * GIB)
    self.bytes_per_s, self.link_free_at = params.mock_bandwidth_gb * GIB, 0
    self.objects, self.order = {}, {}
    self.oldest, self.newest = 1, 0
    self.used, self.count, self.evicted = 0, 0, 0
    neap.log.info('InMemoryL2Adapter created: max_size_gb=%s, mock_bandwidth_gb=%s',
      pyfloat(params.max_size_gb), pyfloat(params.mock_bandwidth_gb))
  end,

  store = function(self, key, buffer)
    local id, bytes = key.text, buffer:size()
    if self.objects[id] then
      return 0
    elseif bytes > self.capacity then
      return nil, 'ENOSPC', ('%d bytes do not fit a capacity of %d'):format(bytes, self.capacity)
    end
    transfer(self, bytes)
    if self.objects[id] then
      return 0 -- another store of the same key was first
    end
    while self.used + bytes > self.capacity do
      drop_oldest(self)
    end
    local copy, code, message = neap.buffer(bytes)
    if not copy then
      return nil, code, message
    end
    insert(self, id, copy:copy(buffer))
    return bytes
  end,

  lookup = function(self, key)
    local object = self.objects[key.text]
    return object and object.buffer:size()
  end,

  load = function(self, key, buffer)
    local object = self.objects[key.text]
    if not object then
      return false
    elseif object.buffer:size() ~= buffer:size() then
      return nil, 'ECORRUPT', ('%d bytes are stored, %d were asked for'):format(object.buffer:size(), buffer:size())
    end
    buffer:copy(object.buffer) -- before the wait: the object may be gone after it
    transfer(self, buffer:size())
    return true
  end,

  delete = function(self, key)
    local id = key.text
    if not self.objects[id] then
      return false
    end
    drop(self, id)
    return true
  end,

  list = function(self, emit)
    for place = self.oldest, self.newest do
      local id = self.order[place]
      if id and not emit(id, self.objects[id].buffer:size(), self.objects[id].stored_at) then
        return
      end
    end
  end,

  status = function(self)
    return { objects = self.count, used_bytes = self.used, capacity_bytes = self.capacity, evicted = self.evicted }
  end,

  close = function(self)
    for _, object in pairs(self.objects) do
      object.buffer:free()
    end
  end,
}

return M
