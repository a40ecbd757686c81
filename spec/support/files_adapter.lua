-- SPDX-License-Identifier: MIT
--
-- A store in files, for specs and benchmarks that change it while it is used: they put another number for VERSION, and
-- code that does not work for BROKEN.

local neap = require 'neap'

local M = {}
local VERSION = 0

M.FilesConfig = {
  dir = { type = 'string', required = true },
  pause = { type = 'number', min = 0, default = 0, live = true },
}
M.Files = neap.adapter {
  open = function(self, params)
    self.dir, self.pause = params.dir, params.pause
    -- BROKEN
  end,
  reconfigure = function(self, params) self.pause = params.pause end,
  store = function(self, key, buffer)
    local path = self.dir .. '/' .. key.file
    if neap.file.stat(path) then return 0 end
    local temporary = ('%s.%p'):format(path, buffer)
    local f, code, message = neap.file.open(temporary, 'w')
    if not f then return nil, code, message end
    f:pwrite(buffer, 0)
    f:close()
    neap.file.rename(temporary, path)
    return buffer:size()
  end,
  lookup = function(self, key)
    if self.pause > 0 then neap.sleep(self.pause) end
    local stat = neap.file.stat(self.dir .. '/' .. key.file)
    return stat and stat.size or false
  end,
  load = function(self, key, buffer)
    local f = neap.file.open(self.dir .. '/' .. key.file)
    if not f then return false end
    local bytes = f:pread(buffer, 0)
    f:close()
    return bytes == buffer:size()
  end,
  status = function(self) return { code = VERSION, pause = self.pause } end,
}
return M
