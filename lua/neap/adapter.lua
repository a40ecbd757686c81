-- SPDX-License-Identifier: MIT
--
-- neap.adapter - declares a store. The table is checked here, where the author's line is still known.

---@class neap.Adapter
---@field version? string
---@field config_class_name? string name of the schema in the module, if it is not CLASS .. 'Config'
---@field open? fun(self: table, params: table): any, string?, string? awaits; nil, code, message refuses
---@field store fun(self: table, key: neap.Key, buffer: neap.Buffer): any, string?, string? awaits
---@field lookup fun(self: table, key: neap.Key): any, string?, string? awaits
---@field load fun(self: table, key: neap.Key, buffer: neap.Buffer): any, string?, string? awaits
---@field delete? fun(self: table, key: neap.Key): any, string?, string? awaits
---@field list? fun(self: table, emit: neap.Emit): any, string?, string? awaits
---@field status? fun(self: table): table plain facts; does not await
---@field close? fun(self: table) awaits

local hooks = {
  open = 'optional', store = 'required', lookup = 'required', load = 'required', delete = 'optional',
  list = 'optional', status = 'optional', close = 'optional',
}
local order = { 'open', 'store', 'lookup', 'load', 'delete', 'list', 'status', 'close' }
local texts = { version = true, config_class_name = true }

-- Classes, so that the loader can tell them from other tables.
local Class = { classes = setmetatable({}, { __mode = 'k' }) }

---@param class any
---@return boolean
function Class.is(class)
  return Class.classes[class] == true
end

local function check_field(name, value)
  if hooks[name] and type(value) ~= 'function' then
    return ("'%s' is a %s, expected a function"):format(name, type(value))
  elseif texts[name] and type(value) ~= 'string' then
    return ("'%s' is a %s, expected a string"):format(name, type(value))
  elseif not hooks[name] and not texts[name] and type(value) ~= 'function' then
    return ("'%s' is not a part of an adapter; its hooks are %s"):format(tostring(name), table.concat(order, ', '))
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
    if hooks[name] == 'required' and not class[name] then
      error(("neap.adapter: the hook '%s' is missing"):format(name), 2)
    end
  end
  Class.classes[class] = true
  return class
end

return setmetatable({ is = Class.is }, Class)
