-- SPDX-License-Identifier: MIT
--
-- neap.console.pretty - a value as text for people: tables sorted, what is too deep, too long or a cycle cut and said
-- so, buffers as their length and a view of their first bytes. It reads tables raw, so a metamethod of the script runs
-- only where it has a __tostring.

local STRING_MAX = 240
local VIEW_BYTES = 64
local ROW_BYTES = 16

---@class neap.console.PrettyOptions
---@field columns? integer a table that fits is one line (default 100)
---@field depth? integer tables inside tables (default 6)
---@field items? integer members shown of one table (default 64)
---@field values? integer members shown in all (default 2000)
---@field colour? boolean

local COLOURS = { string = '\27[32m', number = '\27[36m', boolean = '\27[35m', ['nil'] = '\27[35m', other = '\27[33m' }

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
  until while]]):gmatch '%a+' do
  KEYWORDS[word] = true
end

local function escape(char)
  local named = { ['\n'] = '\\n', ['\r'] = '\\r', ['\t'] = '\\t', ['"'] = '\\"', ['\\'] = '\\\\' }
  return named[char] or ('\\%03d'):format(char:byte())
end

local function quoted(text)
  local shown = text:sub(1, STRING_MAX):gsub('[%c"\\]', escape)
  if #text > STRING_MAX then
    return ('"%s" ... (%d bytes)'):format(shown, #text)
  end
  return '"' .. shown .. '"'
end

local function number(value)
  if value == math.floor(value) and math.abs(value) < 2 ^ 53 then
    return ('%d'):format(value)
  end
  return ('%.14g'):format(value)
end

local function row(bytes, offset)
  local hex = bytes:gsub('.', function(char)
    return ('%02x '):format(char:byte())
  end)
  return ('%08x  %-' .. 3 * ROW_BYTES .. 's |%s|'):format(offset, hex, (bytes:gsub('[^ -~]', '.')))
end

local function view(buffer)
  local ok, bytes = pcall(buffer.size, buffer)
  if not ok then
    return tostring(buffer)
  end
  local lines = { ('neap.buffer, %d byte%s'):format(bytes, bytes == 1 and '' or 's') }
  local head = buffer:peek(0, math.min(bytes, VIEW_BYTES))
  for at = 1, #head, ROW_BYTES do
    lines[#lines + 1] = '  ' .. row(head:sub(at, at + ROW_BYTES - 1), at - 1)
  end
  if bytes > #head then
    lines[#lines + 1] = ('  ... and %d bytes more'):format(bytes - #head)
  end
  return table.concat(lines, '\n')
end

local RANKS = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local x, y = RANKS[type(a)] or 4, RANKS[type(b)] or 4
  if x ~= y then
    return x < y
  elseif x == 3 or x == 4 then
    return tostring(a) < tostring(b)
  end
  return a < b
end

---@class neap.console.Printer
---@field options neap.console.PrettyOptions
---@field open table<table, boolean> the tables that we are inside of
---@field left integer
local Printer = {}
Printer.__index = Printer

function Printer:paint(kind, text)
  return self.options.colour and (COLOURS[kind] or COLOURS.other) .. text .. '\27[0m' or text
end

local function key_text(key)
  if type(key) == 'string' and key:match '^[%a_][%w_]*$' and not KEYWORDS[key] then
    return key
  end
  return '[' .. (type(key) == 'string' and quoted(key) or type(key) == 'number' and number(key) or tostring(key)) .. ']'
end

-- The members as texts, array part first, and how many were left out.
function Printer:members(t, indent, depth)
  local parts, keys, left_out = {}, {}, 0
  local length = #t
  local function add(prefix, value)
    if #parts >= self.options.items or self.left <= 0 then
      left_out = left_out + 1
      return
    end
    self.left = self.left - 1
    parts[#parts + 1] = prefix .. self:value(value, indent .. '  ', depth - 1)
  end
  for i = 1, length do
    add('', rawget(t, i))
  end
  for key in next, t do
    if not (type(key) == 'number' and key >= 1 and key <= length and key == math.floor(key)) then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys, before)
  for _, key in ipairs(keys) do
    add(key_text(key) .. ' = ', rawget(t, key))
  end
  return parts, left_out
end

function Printer:table(t, indent, depth)
  if self.open[t] then
    return '<cycle>'
  elseif next(t) == nil then
    return '{}'
  elseif depth <= 0 then
    return '{...}'
  end
  self.open[t] = true
  local parts, left_out = self:members(t, indent, depth)
  self.open[t] = nil
  if left_out > 0 then
    parts[#parts + 1] = ('... %d more'):format(left_out)
  end
  local line = '{ ' .. table.concat(parts, ', ') .. ' }'
  local width = #indent + #line:gsub('\27%[%d*m', '')
  if width <= self.options.columns and not line:find('\n', 1, true) then
    return line
  end
  return '{\n' .. indent .. '  ' .. table.concat(parts, ',\n' .. indent .. '  ') .. '\n' .. indent .. '}'
end

function Printer:value(value, indent, depth)
  local kind = type(value)
  if kind == 'table' then
    local meta = getmetatable(value)
    if type(meta) == 'table' and rawget(meta, '__tostring') then
      return tostring(value)
    end
    return self:table(value, indent, depth)
  elseif kind == 'string' then
    return self:paint(kind, quoted(value))
  elseif kind == 'number' then
    return self:paint(kind, number(value))
  elseif kind == 'userdata' then
    local text = tostring(value)
    if text:find('^neap%.buffer %(%d') then
      return (view(value):gsub('\n', '\n' .. indent))
    end
    return self:paint('other', text)
  end
  return self:paint(kind, tostring(value))
end

---@param value any
---@param options? neap.console.PrettyOptions
---@return string
return function(value, options)
  local o = { columns = 100, depth = 6, items = 64, values = 2000 }
  for name, given in pairs(options or {}) do
    o[name] = given
  end
  local printer = setmetatable({ options = o, open = {}, left = o.values }, Printer)
  return printer:value(value, '', o.depth)
end
