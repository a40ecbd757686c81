-- SPDX-License-Identifier: MIT
--
-- neap.await - makes a function of neap.core that awaits into one for scripts. The C function gives nil and its
-- results, or a text: the operation was canceled or is over its deadline, and the hook must end. Only Lua can raise
-- that, for the C frame is gone when the coroutine is resumed.

local function settle(failure, ...)
  if failure then
    error(failure, 0)
  end
  return ...
end

---@generic F: function
---@param awaiting F
---@return F
return function(awaiting)
  return function(...)
    return settle(awaiting(...))
  end
end
