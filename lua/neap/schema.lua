-- SPDX-License-Identifier: MIT
--
-- neap.schema - checks the declaration of an adapter's parameters. The parameters themselves are checked by the
-- engine, against the same declaration, before open is called.

---@class neap.Parameter
---@field type 'number'|'integer'|'boolean'|'string'|'object'|'array'
---@field required? boolean
---@field default? any
---@field min? number at least
---@field max? number at most
---@field above? number more than
---@field enum? any[]
---@field live? boolean may be changed while the adapter runs
---@field doc? string

local types = { number = true, integer = true, boolean = true, string = true, object = true, array = true }
local attributes = {
  type = 'string', required = 'boolean', live = 'boolean', min = 'number', max = 'number', above = 'number',
  enum = 'table', doc = 'string', default = 'any',
}

local function check_parameter(declaration)
  if type(declaration) ~= 'table' then
    return ('is a %s, expected a table such as { type = \'number\' }'):format(type(declaration))
  elseif not types[declaration.type] then
    return (".type is '%s', expected number, integer, boolean, string, object or array")
      :format(tostring(declaration.type))
  end
  for attribute, value in pairs(declaration) do
    local expected = attributes[attribute]
    if not expected then
      return (".%s is unknown; expected type, required, default, min, max, above, enum, live or doc")
        :format(tostring(attribute))
    elseif expected ~= 'any' and type(value) ~= expected then
      return ('.%s is a %s, expected a %s'):format(attribute, type(value), expected)
    end
  end
end

--- What is wrong with a schema, or nil.
---@param schema table<string, neap.Parameter>
---@return string?
return function(schema)
  if type(schema) ~= 'table' then
    return (' is a %s, expected a table of parameters'):format(type(schema))
  end
  for name, declaration in pairs(schema) do
    if type(name) ~= 'string' then
      return (' has a %s as a parameter\'s name, expected a string'):format(type(name))
    end
    local wrong = check_parameter(declaration)
    if wrong then
      return '.' .. name .. (wrong:match('^%.') and '' or ' ') .. wrong
    end
  end
end
