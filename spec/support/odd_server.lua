-- SPDX-License-Identifier: MIT
--
-- An odd_server.py of one's own: the path of a request says how it answers.

local driver = require 'spec.support.adapter_driver'
local process = require 'spec.support.process'

---@class spec.OddServer
---@field port string
---@field socket string
local Odd = {}
Odd.__index = Odd

local M = {}

function M.start()
  local dir, _, remove = driver.directory()
  local odd = setmetatable({ dir = dir, remove = remove, socket = dir .. '/socket' }, Odd)
  odd.process, odd.port = process.start(('python3 %s/spec/support/odd_server.py %s/port %s'):format(driver.root, dir,
    odd.socket), function()
      return process.read(dir .. '/port')
    end)
  return odd
end

function Odd:discard()
  self.process:close()
  os.remove(self.dir .. '/port')
  os.remove(self.socket)
  self.remove()
end

return M
