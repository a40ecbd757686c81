-- SPDX-License-Identifier: MIT
--
-- A store in Lua that is right but for one fault, as bad.c is in C: faults that only a script can have, and some that a
-- store in files has. `directory` is given for the latter.

local neap = require 'neap'

local M = {}

M.BadConfig = {
  fault = { type = 'string', required = true },
  directory = { type = 'string' },
}

local faults = {
  raises = function() error 'the script has a mistake' end,
  ['returns-a-table'] = function() return {} end,
  ['returns-an-unknown-code'] = function() return nil, 'EWHATEVER' end,
  loops = function() while true do end end, -- luacheck: ignore
  ['allocates-without-end'] = function(self)
    while true do
      self.hoard[#self.hoard + 1] = assert(neap.buffer(2 ^ 24)):fill(1)
    end
  end,
  ['sleeps-for-ever'] = function() neap.sleep(3600) end,
  ['ends-the-program'] = function() os.exit(0) end,
  ['uses-an-old-view'] = function(self, buffer)
    local old = self.view
    self.view = buffer
    if old then
      old:fill(0)
    end
  end,
}

M.Bad = neap.adapter {
  open = function(self, params)
    self.fault, self.directory = params.fault, params.directory
    self.objects, self.hoard, self.half, self.wait = {}, {}, {}, 0
  end,

  store = function(self, key, buffer)
    if self.fault == 'stores-nothing' then
      return buffer:size()
    elseif self.objects[key.text] then
      return 0
    end
    local copy = self.fault == 'mixes-racing-stores' and self.half[key.text] or assert(neap.buffer(buffer:size()))
    if self.fault == 'mixes-racing-stores' then
      self.half[key.text] = copy:copy(buffer)
      self.wait = self.wait > 0.002 and self.wait - 0.002 or 0.02
      neap.sleep(self.wait) -- the first to come is the last to go on
      copy:copy(buffer, 0, 0, math.floor(buffer:size() / 2))
    else
      copy:copy(buffer)
    end
    self.objects[key.text] = copy
    return buffer:size()
  end,

  lookup = function(self, key)
    local object = self.objects[key.text]
    return object and object:size()
  end,

  load = function(self, key, buffer)
    local misbehave = faults[self.fault]
    if misbehave then
      local result, code = misbehave(self, buffer)
      if result ~= nil or code then
        return result, code
      end
    end
    local object = self.objects[key.text]
    if not object then
      return false
    elseif object:size() ~= buffer:size() then
      return nil, 'ECORRUPT'
    end
    buffer:copy(object)
    return true
  end,
}

M.HalfConfig = { directory = { type = 'string', required = true } }

-- Writes under the final name: what is cut short is visible.
M.Half = neap.adapter {
  open = function(self, params) self.directory = params.directory end,

  store = function(self, key, buffer)
    local path = self.directory .. '/' .. key.file
    if neap.file.stat(path) then
      return 0
    end
    local file, code, message = neap.file.open(path, 'w')
    if not file then
      return nil, code, message
    end
    local wrote, write_code, write_message = file:pwrite(buffer, 0)
    file:close()
    return wrote and buffer:size(), write_code, write_message
  end,

  lookup = function(self, key)
    local stat = neap.file.stat(self.directory .. '/' .. key.file)
    return stat and stat.size
  end,

  load = function(self, key, buffer)
    local file = neap.file.open(self.directory .. '/' .. key.file, 'r')
    if not file then
      return false
    end
    local bytes, code, message = file:pread(buffer, 0)
    file:close()
    if not bytes then
      return nil, code, message
    end
    return bytes == buffer:size() or nil, 'ECORRUPT', 'short'
  end,
}

return M
