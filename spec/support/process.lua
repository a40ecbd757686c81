-- SPDX-License-Identifier: MIT
--
-- A server that a spec starts for itself. It ends when its spec closes it, or when the spec's own process ends: a shell
-- waits for the end of its input, which this process holds, and then ends the server that it started.

local driver = require 'spec.support.adapter_driver'

---@class spec.Process
local Process = {}
Process.__index = Process

local M = {}

--- Starts a shell command; up to `ready` returning something true, which is handed on with the process.
function M.start(command, ready)
  local shell = ("env -u LD_PRELOAD sh -c '%s & pid=$!; cat >/dev/null; kill $pid 2>/dev/null; wait $pid'")
    :format(command)
  local process = setmetatable({ input = assert(io.popen(shell, 'w')) }, Process)
  local answer
  local ok, failure = pcall(driver.eventually, function()
    answer = ready()
    return answer
  end)
  if not ok then
    process:close()
    error(('%s does not start: %s'):format(command, failure))
  end
  return process, answer
end

--- The text of a file, or nil.
function M.read(path)
  local file = io.open(path)
  local text = file and file:read '*a'
  if file then
    file:close()
  end
  return text
end

function Process:close()
  if self.input then
    self.input:close()
    self.input = nil
  end
end

return M
