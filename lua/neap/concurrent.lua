-- SPDX-License-Identifier: MIT
--
-- neap.all and neap.semaphore - several awaiting functions in one hook, and what they wait for one another with.

local await = require 'neap.await'
local core = require 'neap.core'

local concurrent = {}
local run = await(core.all)

local function succeeded(...)
  return { ok = true, n = select('#', ...), ... }
end

local function settled(ok, ...)
  return ok and succeeded(...) or ...
end

local function failed(message)
  return { ok = false, error = message,
    traceback = type(message) == 'string' and debug.traceback(message, 2) or nil }
end

---@class neap.Outcome
---@field ok boolean
---@field n integer how many results; they are at 1 to n
---@field error any what was raised
---@field traceback? string

--- Runs functions (at most 64) at the same time, as parts of this hook: they may use what the hook was lent. Returns
--- when all have ended, with an outcome for each; one that raises does not disturb the others. If the hook is
--- canceled, they are, and this raises when they have ended. Awaits.
---@param functions (fun(): any ...)[]
---@return neap.Outcome[]
function concurrent.all(functions)
  if type(functions) ~= 'table' then
    error(('neap.all: got a %s, expected a table of functions'):format(type(functions)), 2)
  end
  local outcomes, wrapped = {}, {}
  for i, f in ipairs(functions) do
    if type(f) ~= 'function' then
      error(('neap.all: item %d is a %s, expected a function'):format(i, type(f)), 2)
    end
    wrapped[i] = function()
      outcomes[i] = settled(xpcall(f, failed))
    end
  end
  local _, _, message = run(wrapped)
  for i = 1, #wrapped do
    outcomes[i] = outcomes[i] or { ok = false, error = message or 'neap.all: ended by the engine' }
  end
  return outcomes
end

---@class neap.Semaphore
---@field acquire fun(self: neap.Semaphore, timeout?: number): true?, string?, string? awaits; nil, 'ETIMEDOUT', message
---@field release fun(self: neap.Semaphore) does not await
core.semaphore_methods.acquire = await(core.semaphore_acquire)
core.semaphore_methods.release = core.semaphore_release

--- So many coroutines of this script may hold it at a time; others wait, in the order of their asking.
---@type fun(permits: integer): neap.Semaphore
concurrent.semaphore = core.semaphore

return concurrent
