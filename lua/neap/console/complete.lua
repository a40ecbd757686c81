-- SPDX-License-Identifier: MIT
--
-- neap.console.complete - what the text before the cursor may go on with: globals, fields, methods. It looks into
-- tables and never calls anything.

local KEYWORDS = { 'and', 'break', 'do', 'else', 'elseif', 'end', 'false', 'for', 'function', 'if', 'in', 'local',
  'nil', 'not', 'or', 'repeat', 'return', 'then', 'true', 'until', 'while' }
local CANDIDATES_MAX = 500

-- The tables in which a field of value is looked for, nearest first.
local function places(value)
  local found = {}
  local seen = {}
  while value ~= nil and not seen[value] do
    seen[value] = true
    if type(value) == 'table' then
      found[#found + 1] = value
    end
    local meta = debug.getmetatable(value)
    value = type(meta) == 'table' and rawget(meta, '__index') or nil
    if type(value) == 'function' then
      value = nil
    end
  end
  return found
end

local function field(value, name)
  for _, place in ipairs(places(value)) do
    local member = rawget(place, name)
    if member ~= nil then
      return member
    end
  end
end

---@param env table the globals
---@param text string the line up to the cursor
---@return string prefix what the candidates replace
---@return string[] candidates
return function(env, text)
  local chain = text:match '[%a_][%w_%.:]*$' or ''
  if text:sub(1, #text - #chain):match '[%w_%]%)"\'][%.:]$' then
    return '', {} -- a field of something that would have to be evaluated
  end
  local path, separator, prefix = chain:match '^(.-)([%.:]?)([%w_]*)$'
  if separator == '' then
    path, prefix = '', chain
  end
  local value = env
  for name in path:gmatch '[^%.:]+' do
    value = field(value, name)
  end
  local found, seen = {}, {}
  local function offer(name, member)
    if type(name) ~= 'string' or seen[name] or name:sub(1, #prefix) ~= prefix or #found >= CANDIDATES_MAX then
      return
    elseif not name:match '^[%a_][%w_]*$' or (prefix == '' and name:sub(1, 1) == '_') then
      return
    end
    seen[name] = true
    local call = type(member) == 'function'
    if separator ~= ':' or call then
      found[#found + 1] = name .. (call and '(' or '')
    end
  end
  for _, place in ipairs(places(value)) do
    for name, member in next, place do
      offer(name, member)
    end
  end
  if path == '' then
    for _, word in ipairs(KEYWORDS) do
      offer(word)
    end
  end
  table.sort(found)
  return prefix, found
end
