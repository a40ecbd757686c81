-- SPDX-License-Identifier: MIT
--
-- neap.adapter - declares a store. The table is checked here, where the author's line is still known.
--
-- What happens to a script that takes too much. Memory: over `memory` an allocation fails and the hook ends with
-- ENOMEM; the adapter goes on. What the FFI takes from C is not counted. Time: without `guarded` a script is compiled,
-- and nothing can stop it: a hook that does not return is reported with its line after five seconds, the adapter is
-- unhealthy, its operations end by their deadlines. With `guarded` it is interpreted, and a hook that runs for a
-- `slice` without awaiting is stopped with a traceback. A call of C (a pattern that backtracks, ffi.C, os.execute) and
-- a finalizer cannot be stopped either way. The module itself is always loaded guarded, within ten seconds.

---@class neap.Adapter
---@field version? string
---@field config_class_name? string name of the schema in the module, if it is not CLASS .. 'Config'
---@field open? fun(self: table, params: table): any, string?, string? awaits; nil, code, message refuses
---@field reconfigure? fun(self: table, params: table): any, string?, string? awaits; as open, for changed parameters
---@field store? fun(self: table, key: neap.Key, buffer: neap.Buffer): any, string?, string? awaits
---@field lookup? fun(self: table, key: neap.Key): any, string?, string? awaits
---@field load? fun(self: table, key: neap.Key, buffer: neap.Buffer): any, string?, string? awaits
---@field delete? fun(self: table, key: neap.Key): any, string?, string? awaits
---@field list? fun(self: table, emit: neap.Emit): any, string?, string? awaits
---@field status? fun(self: table): table plain facts; does not await
---@field close? fun(self: table) awaits
---
--- Batch forms: called once for all objects of an operation, instead of the single form, which may then be missing.
--- They return one array: for each object what the single form returns first, or a code such as 'EIO'; or nil, code,
--- message for all of them.
---@field store_batch? fun(self: table, keys: neap.Key[], buffers: neap.Buffer[]): any[]?, string?, string?
---@field lookup_batch? fun(self: table, keys: neap.Key[]): any[]?, string?, string?
---@field load_batch? fun(self: table, keys: neap.Key[], buffers: neap.Buffer[]): any[]?, string?, string?
---@field delete_batch? fun(self: table, keys: neap.Key[]): any[]?, string?, string?
---
--- Declarations, kept by the framework; without one, its defaults hold.
---@field concurrency? integer operations at once, and without batch forms also hooks at once
---@field batch? integer objects of one operation at most
---@field deadline? number seconds for one operation
---@field retries? integer further attempts for objects that failed with EIO or ETIMEDOUT
---@field backoff? number seconds before the first further attempt
---@field memory? integer bytes that Lua values may take, and buffers as many again; 1 GiB without it
---@field guarded? boolean not compiled, and stopped when it runs for a slice, or past its deadline, without awaiting
---@field slice? number seconds of processor time, or ten times as long by the clock; 1 without it

local hooks = {
  open = 'optional', reconfigure = 'optional', store = 'required', lookup = 'required', load = 'required',
  delete = 'optional', list = 'optional', status = 'optional', close = 'optional',
  store_batch = 'optional', lookup_batch = 'optional', load_batch = 'optional', delete_batch = 'optional',
}
local order = {
  'open', 'store', 'lookup', 'load', 'delete', 'list', 'status', 'close', 'reconfigure',
  'store_batch', 'lookup_batch', 'load_batch', 'delete_batch',
}
local words = { version = 'string', config_class_name = 'string', guarded = 'boolean' }
local declarations = 'version, concurrency, batch, deadline, retries, backoff, memory, guarded, slice'
local numbers = {
  concurrency = { min = 1, max = 4096, whole = true },
  batch = { min = 1, max = 65536, whole = true },
  deadline = { above = 0, max = 86400, unit = ' seconds' },
  retries = { min = 0, max = 100, whole = true },
  backoff = { min = 0, max = 3600, unit = ' seconds' },
  memory = { min = 2 ^ 22, max = 2 ^ 46, whole = true, unit = ' bytes' },
  slice = { above = 0, max = 3600, unit = ' seconds' },
}

-- Classes, so that the loader can tell them from other tables.
local Class = { classes = setmetatable({}, { __mode = 'k' }) }

---@param class any
---@return boolean
function Class.is(class)
  return Class.classes[class] == true
end

local function check_number(name, value, bounds)
  local expected = ('%s %s %.0f%s %.0f%s'):format(bounds.whole and 'a whole number' or 'a number',
    bounds.above and 'above' or 'from', bounds.above or bounds.min, bounds.above and ', at most' or ' to', bounds.max,
    bounds.unit or '')
  if type(value) ~= 'number' then
    return ("'%s' is a %s, expected %s"):format(name, type(value), expected)
  end
  local low = bounds.above and value > bounds.above or bounds.min and value >= bounds.min
  if not (low and value <= bounds.max) or bounds.whole and value % 1 ~= 0 then
    return ("'%s' is %s, expected %s"):format(name, tostring(value), expected)
  end
end

local function check_field(name, value)
  if numbers[name] then
    return check_number(name, value, numbers[name])
  elseif hooks[name] and type(value) ~= 'function' then
    return ("'%s' is a %s, expected a function"):format(name, type(value))
  elseif words[name] and type(value) ~= words[name] then
    return ("'%s' is a %s, expected a %s"):format(name, type(value), words[name])
  elseif not hooks[name] and not words[name] and type(value) ~= 'function' then
    return ("'%s' is not a part of an adapter; its hooks are %s; its declarations are %s")
      :format(tostring(name), table.concat(order, ', '), declarations)
  end
end

---@param class neap.Adapter hooks, and methods of the author's own
---@return neap.Adapter class the same table
function Class:__call(class) -- luacheck: ignore self
  if type(class) ~= 'table' then
    error(('neap.adapter: got a %s, expected a table of hooks'):format(type(class)), 2)
  end
  for name, value in pairs(class) do
    local wrong = check_field(name, value)
    if wrong then
      error('neap.adapter: ' .. wrong, 2)
    end
  end
  for _, name in ipairs(order) do
    if hooks[name] == 'required' and not class[name] and not class[name .. '_batch'] then
      error(("neap.adapter: the hook '%s' is missing"):format(name), 2)
    end
  end
  Class.classes[class] = true
  return class
end

return setmetatable({ is = Class.is }, Class)
