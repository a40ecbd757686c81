-- SPDX-License-Identifier: MIT
-- Skeleton - a store for neap, in memory. Try it: neap check skeleton.lua. Serve with it: neap server --plugin-path .
-- --l2-adapter '{"type":"skeleton"}'. A hook is written as if it blocked: one that waits, for a file, a socket or a
-- timer, holds up nobody. It returns what it did, or nil, a code of neap/types.h without NEAP_, and a sentence.
local neap = require 'neap'
local M = {}
-- The parameters; checked before open is called.
M.SkeletonConfig = { max_object_mb = { type = 'integer', min = 1, default = 1024, doc = 'of one object' } }

M.Skeleton = neap.adapter {
  open = function(self, params) -- self belongs to this store and is given to every hook
    self.objects, self.max_bytes = {}, params.max_object_mb * 2 ^ 20
  end,
  store = function(self, key, buffer) -- the bytes stay in C; the buffer is valid until the hook returns
    if self.objects[key.text] then return 0 end -- the first store of a key wins
    if buffer:size() > self.max_bytes then return nil, 'ENOSPC', 'larger than max_object_mb' end
    local copy, code, message = neap.buffer(buffer:size())
    if not copy then return nil, code, message end
    self.objects[key.text] = copy:copy(buffer)
    return buffer:size() -- bytes added
  end,
  lookup = function(self, key) return self.objects[key.text] and self.objects[key.text]:size() end, -- nil: a miss
  load = function(self, key, buffer)
    local object = self.objects[key.text]
    if not object then return false end
    if object:size() ~= buffer:size() then return nil, 'ECORRUPT', 'another length is stored' end
    return buffer:copy(object) ~= nil
  end,
  delete = function(self, key)
    if not self.objects[key.text] then return false end
    self.objects[key.text] = nil
    return true
  end,
  list = function(self, emit) -- emit answers false when it has heard enough
    for text, object in pairs(self.objects) do if not emit(text, object:size()) then return end end
  end,
}

return M
