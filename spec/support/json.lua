-- SPDX-License-Identifier: MIT
--
-- Reads JSON text (RFC 8259) that a program under test printed. null becomes json.null.

local json = { null = setmetatable({}, { __tostring = function() return 'null' end }) }

local escapes = { b = '\b', f = '\f', n = '\n', r = '\r', t = '\t', ['"'] = '"', ['\\'] = '\\', ['/'] = '/' }
local words = { ['true'] = true, ['false'] = false, null = json.null }

local read_value

local function fail(text, at, expected)
  error(('JSON: expected %s at %d, got %q'):format(expected, at, text:sub(at, at + 20)), 0)
end

local function skip(text, at)
  return text:match('^[ \t\r\n]*()', at)
end

-- Beyond ASCII only as UTF-8 in the text itself; \u is read up to U+007F.
local function read_string(text, at)
  local parts = {}
  at = at + 1
  while true do
    local plain, stop = text:match('^([^"\\]*)()', at)
    parts[#parts + 1] = plain
    local mark = text:sub(stop, stop)
    if mark == '"' then
      return table.concat(parts), stop + 1
    elseif mark == '' then
      fail(text, stop, 'the end of a string')
    end
    local code = text:match('^u(%x%x%x%x)', stop + 1)
    local letter = text:sub(stop + 1, stop + 1)
    parts[#parts + 1] = code and string.char(tonumber(code, 16) % 128) or escapes[letter] or
      fail(text, stop, 'an escape')
    at = stop + (code and 6 or 2)
  end
end

-- The members between brackets: read_member(text, at) returns where it ended.
local function read_list(text, at, close, read_member)
  at = skip(text, at + 1)
  if text:sub(at, at) == close then
    return at + 1
  end
  while true do
    at = skip(text, read_member(text, skip(text, at)))
    local mark = text:sub(at, at)
    if mark == close then
      return at + 1
    elseif mark ~= ',' then
      fail(text, at, "',' or '" .. close .. "'")
    end
    at = at + 1
  end
end

function read_value(text, at)
  local mark, result = text:sub(at, at), {}
  if mark == '"' then
    return read_string(text, at)
  elseif mark == '{' then
    return result, read_list(text, at, '}', function(_, from)
      local name, after = read_string(text, from)
      after = skip(text, after)
      if text:sub(after, after) ~= ':' then
        fail(text, after, "':'")
      end
      result[name], after = read_value(text, skip(text, after + 1))
      return after
    end)
  elseif mark == '[' then
    return result, read_list(text, at, ']', function(_, from)
      local value, after = read_value(text, from)
      result[#result + 1] = value
      return after
    end)
  end
  local word = text:match('^[%w%.+-]+', at) or fail(text, at, 'a value')
  local value = words[word]
  if value == nil then
    value = tonumber(word) or fail(text, at, 'a value')
  end
  return value, at + #word
end

--- The value of a whole text; raises what is wrong with it.
---@param text string
---@return any
function json.decode(text)
  local value, after = read_value(text, skip(text, 1))
  if skip(text, after) <= #text then
    fail(text, after, 'the end')
  end
  return value
end

return json
