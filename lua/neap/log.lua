-- SPDX-License-Identifier: MIT
--
-- neap.log - lines under the adapter's name in the engine's log. With further arguments the first is a format.

local core = require 'neap.core'

local function logger(level)
  return function(text, ...)
    if select('#', ...) > 0 then
      text = string.format(text, ...)
    end
    core.log(level, tostring(text))
  end
end

---@class neap.log
---@field debug fun(text: any, ...: any)
---@field info fun(text: any, ...: any)
---@field warn fun(text: any, ...: any)
---@field error fun(text: any, ...: any)
return { debug = logger(0), info = logger(1), warn = logger(2), error = logger(3) }
