-- SPDX-License-Identifier: MIT
--
-- neap.store - another adapter as a script's own store. Its methods return what the hooks of an adapter return, so that
-- `return inner:load(key, buffer)` is a whole hook: true, false for a miss, a number of bytes, or nil, code, message.
-- Buffers are handed on, never copied. One store may be used by many operations at once; what is not closed is closed
-- with the adapter. An operation that is canceled while it waits here still gets the result: what the inner store did,
-- it did. Further calls raise, but for delete and close, so that a hook can take back what it began.

local await = require 'neap.await'
local core = require 'neap.core'

local run = await(core.store_run)
local methods = core.store_methods

---@class neap.Store
---@field can fun(self: neap.Store, kind: 'store'|'lookup'|'load'|'delete'|'list'): boolean
---@field status fun(self: neap.Store): table?, string?, string? does not await
local Store = methods

---@param key neap.Key
---@param buffer neap.Buffer
---@return integer? stored 0: it was there
---@return string? code
---@return string? message
function Store:store(key, buffer)
  return run(self, 0, key, buffer)
end

---@param key neap.Key
---@return boolean|integer|nil size true: there, size unknown
---@return string? code
---@return string? message
function Store:lookup(key)
  return run(self, 1, key)
end

---@param key neap.Key
---@param buffer neap.Buffer
---@return boolean? found
---@return string? code
---@return string? message
function Store:load(key, buffer)
  return run(self, 2, key, buffer)
end

---@param key neap.Key
---@return boolean? found
---@return string? code
---@return string? message
function Store:delete(key)
  return run(self, 3, key)
end

--- The same for arrays of keys and buffers, as one operation. Results are an array of what the single form returns
--- first; a failure is its code.
---@param keys neap.Key[]
---@param buffers neap.Buffer[]
---@return (integer|string)[]? results
---@return string? code
---@return string? message
function Store:store_batch(keys, buffers)
  return run(self, 0, keys, buffers)
end

---@param keys neap.Key[]
---@return (boolean|integer|string)[]? results
---@return string? code
---@return string? message
function Store:lookup_batch(keys)
  return run(self, 1, keys)
end

---@param keys neap.Key[]
---@param buffers neap.Buffer[]
---@return (boolean|string)[]? results
---@return string? code
---@return string? message
function Store:load_batch(keys, buffers)
  return run(self, 2, keys, buffers)
end

---@param keys neap.Key[]
---@return (boolean|string)[]? results
---@return string? code
---@return string? message
function Store:delete_batch(keys)
  return run(self, 3, keys)
end

--- `for key, bytes, used_unix_s in assert(store:list()) do`
---@type fun(self: neap.Store): (fun(): neap.Key?, integer, integer)?, string?, string?
Store.list = await(core.store_list)

--- Waits for the operations of others that use it. Also works after a cancel.
---@type fun(self: neap.Store): true?, string?, string?
Store.close = await(core.store_close)

--- Opens the adapter that a configuration describes, as --l2-adapter takes it but without the keys of a tier.
---@type fun(config: table): neap.Store?, string?, string?
return await(core.open_store)
