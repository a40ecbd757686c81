-- SPDX-License-Identifier: MIT
--
-- neap.loader - finds a class and its schema in a module; called by the engine only.

local adapter = require 'neap.adapter'
local check_schema = require 'neap.schema'

local loader = {}

-- Names of the module's adapters; two names of one adapter count once.
local function classes_of(module)
  local names, seen = {}, {}
  for name, value in pairs(module) do
    if adapter.is(value) and not seen[value] then
      names[#names + 1] = tostring(name)
      seen[value] = true
    end
  end
  table.sort(names)
  return names
end

-- The class that is meant, and its name.
local function choose(path, module, class_name)
  local names = classes_of(module)
  local all = #names > 0 and table.concat(names, ', ') or 'none'
  if not class_name then
    if #names ~= 1 then
      error(("%s: 'class_name' is missing: which store of it? The module's adapters: %s"):format(path, all), 0)
    end
    class_name = names[1]
  end
  local class = module[class_name]
  if class == nil then
    error(("%s: there is no class '%s'; the module's adapters: %s"):format(path, class_name, all), 0)
  elseif not adapter.is(class) then
    error(("%s: '%s' is a %s, expected what neap.adapter{...} returns"):format(path, class_name, type(class)), 0)
  end
  return class, class_name
end

local function run(path)
  local chunk, failure = loadfile(path, 't')
  if not chunk then
    error(failure, 0)
  end
  local module = chunk(path)
  if type(module) ~= 'table' then
    error(('%s: the module returned a %s, expected a table of adapters'):format(path, type(module)), 0)
  end
  return module
end

-- The schema, as LMCache finds a config class: the name that was configured, CLASS .. 'Config', the name that the class
-- gives, or none, which means that any parameters are taken.
local function find_schema(path, module, class_name, class, config_class_name)
  for _, name in ipairs { config_class_name or false, class_name .. 'Config', class.config_class_name or false } do
    local schema = name and module[name]
    if schema ~= nil and schema ~= false then
      local wrong = check_schema(schema)
      if wrong then
        error(("%s: '%s'%s"):format(path, name, wrong), 0)
      end
      return schema
    elseif name and name == config_class_name then
      error(("%s: there is no '%s' for config_class_name"):format(path, name), 0)
    end
  end
end

---@param path string
---@param class_name? string
---@param config_class_name? string
---@return neap.Adapter class
---@return table<string, neap.Parameter>? schema
---@return string name
function loader.load(path, class_name, config_class_name)
  local module = run(path)
  local class, name = choose(path, module, class_name)
  return class, find_schema(path, module, name, class, config_class_name), name
end

return loader
