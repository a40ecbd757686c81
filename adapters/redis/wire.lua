-- SPDX-License-Identifier: MIT
--
-- redis.wire - the RESP protocol, versions 2 and 3, over a connection of neap.net: commands as strings, replies as Lua
-- values, payload from and into buffers. What it promises: a reply is read to its last byte or the connection is said
-- to be broken; nothing in a reply is trusted (lengths, depth and counts are bounded). Every function that reads
-- awaits. Which server and which key is not its business.
--
-- Protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/

local wire = {}

local LINE_MAX = 4096 -- of a header, an error, a simple string
local TEXT_MAX = 65536 -- of a bulk string that becomes a Lua string; a longer one is skipped
local SKIP_MAX = 2 ^ 20 -- of a bulk string that is read only to get past it
local ITEMS_MAX = 2 ^ 20
local DEPTH_MAX = 8

---The reply for "nothing there".
wire.null = setmetatable({}, { __tostring = function() return 'null' end })
---Stands for a string that was too long to be kept.
wire.skipped = setmetatable({}, { __tostring = function() return 'skipped' end })

---@class redis.Error an error reply
---@field name string its first word: 'OOM', 'MOVED', ...
---@field text string
local Error = {}
Error.__index = Error
Error.__tostring = function(self) return self.text end

---@param reply any
---@return boolean
function wire.is_error(reply)
  return getmetatable(reply) == Error
end

local function argument(text)
  text = tostring(text)
  return ('$%d\r\n%s\r\n'):format(#text, text)
end

---A command as it goes over the wire.
---@param ... string|number
---@return string
function wire.command(...)
  local words = { ... }
  for i = 1, #words do
    words[i] = argument(words[i])
  end
  return ('*%d\r\n%s'):format(#words, table.concat(words))
end

---What stands before and behind the payload of `SET key PAYLOAD options...`.
---@param key string
---@param bytes integer
---@param options string[]
---@return string head
---@return string tail
function wire.set(key, bytes, options)
  local tail = {}
  for i, option in ipairs(options) do
    tail[i] = argument(option)
  end
  return ('*%d\r\n$3\r\nSET\r\n%s$%d\r\n'):format(3 + #options, argument(key), bytes), '\r\n' .. table.concat(tail)
end

local function garbage(what, text)
  return nil, 'EIO', ('the server does not speak RESP: %s %q'):format(what, text:sub(1, 64))
end

-- The number of a header such as '$12'; -1 is null.
local function count(line, most)
  local text = line:match('^(%-?%d+)$', 2)
  local number = text and #text <= 15 and tonumber(text)
  if not number or number < -1 or number > most then
    return garbage('a length of', line)
  end
  return number
end

local function ends_line(conn)
  local text, code, message = conn:read_exactly(2)
  if not text then
    return nil, code, message
  elseif text ~= '\r\n' then
    return garbage('a string that ends with', text)
  end
  return true
end

-- Reads past `bytes` bytes and their line end.
local function skip(conn, bytes)
  if bytes > SKIP_MAX then
    return nil, 'EIO', ('a string of %d bytes is in the way'):format(bytes)
  end
  while bytes > 0 do
    local text, code, message = conn:read_exactly(math.min(bytes, TEXT_MAX))
    if not text then
      return nil, code, message
    end
    bytes = bytes - #text
  end
  return ends_line(conn)
end

local function bulk(conn, line)
  local bytes, code, message = count(line, 2 ^ 40)
  if not bytes then
    return nil, code, message
  elseif bytes == -1 then
    return wire.null
  elseif bytes > TEXT_MAX then
    bytes, code, message = skip(conn, bytes)
    return bytes and wire.skipped, code, message
  end
  local text = ''
  if bytes > 0 then
    text, code, message = conn:read_exactly(bytes)
  end
  if text then
    bytes, code, message = ends_line(conn)
  end
  return bytes and text, code, message
end

local read

-- n values one after the other.
local function values(conn, n, depth)
  local items = {}
  if depth > DEPTH_MAX then
    return nil, 'EIO', 'a reply is nested too deeply'
  end
  for i = 1, n do
    local value, code, message = read(conn, depth)
    if value == nil then
      return nil, code, message
    end
    items[i] = value
  end
  return items
end

local function list(conn, line, depth)
  local n, code, message = count(line, ITEMS_MAX)
  if not n then
    return nil, code, message
  elseif n == -1 then
    return wire.null
  end
  return values(conn, n, depth + 1)
end

-- A map becomes { [key] = value }; keys that are no strings are dropped.
local function map(conn, line, depth)
  local n, code, message = count(line, ITEMS_MAX)
  local items = n
  if n and n >= 0 then
    items, code, message = values(conn, 2 * n, depth + 1)
  end
  if not items then
    return nil, code, message
  end
  local pairs_of = {}
  for i = 1, 2 * n, 2 do
    if type(items[i]) == 'string' then
      pairs_of[items[i]] = items[i + 1]
    end
  end
  return pairs_of
end

local function number(_, line)
  local text = line:sub(2)
  local value = tonumber(text) or ({ inf = math.huge, ['-inf'] = -math.huge, nan = 0 / 0 })[text]
  if not value then
    return garbage('a number', line)
  end
  return value
end

local function failed(text)
  return setmetatable({ name = text:match '^%S+' or '', text = text }, Error)
end

local function blob_error(conn, line)
  local text, code, message = bulk(conn, line)
  if type(text) ~= 'string' then
    return nil, code or 'EIO', message or 'an error without a text'
  end
  return failed(text)
end

local types = {
  ['+'] = function(_, line) return line:sub(2) end,
  ['-'] = function(_, line) return failed(line:sub(2)) end,
  [':'] = number, [','] = number, ['('] = function(_, line) return line:sub(2) end,
  ['$'] = bulk, ['='] = bulk, ['!'] = blob_error,
  ['*'] = list, ['~'] = list, ['%'] = map,
  ['_'] = function() return wire.null end,
  ['#'] = function(_, line) return line == '#t' end,
}

-- Push messages and attributes are about something else than the command: read and dropped.
local asides = { ['>'] = list, ['|'] = map }

-- The first line of a reply.
local function header(conn, depth)
  local line, code, message = conn:read_until('\r\n', LINE_MAX)
  local aside = line and asides[line:sub(1, 1)]
  while aside do
    local dropped
    dropped, code, message = aside(conn, line, depth)
    if dropped == nil then
      return nil, code, message
    end
    line, code, message = conn:read_until('\r\n', LINE_MAX)
    aside = line and asides[line:sub(1, 1)]
  end
  return line, code, message
end

-- The rest of a reply, behind its first line.
local function rest(conn, line, depth)
  local parse = types[line:sub(1, 1)]
  if not parse then
    return garbage('a reply that begins with', line)
  end
  return parse(conn, line, depth)
end

function read(conn, depth)
  local line, code, message = header(conn, depth)
  if not line then
    return nil, code, message
  end
  return rest(conn, line, depth)
end

---One reply. Awaits.
---@return any reply a string, number, boolean, table, wire.null, a redis.Error; nil: the connection is broken
---@return string? code
---@return string? message
function wire.read(conn)
  return read(conn, 0)
end

---One reply that should be a string of exactly the buffer's size; its bytes go straight into the buffer. Awaits.
---@return any reply true: filled; a number: a string of that many bytes is there instead; or as wire.read
---@return string? code the connection is broken, also if there is a reply
---@return string? message
function wire.read_into(conn, buffer)
  local line, code, message = header(conn, 0)
  if not line then
    return nil, code, message
  elseif line:byte() ~= 36 then -- '$'
    return rest(conn, line, 0)
  end
  local bytes, done
  bytes, code, message = count(line, 2 ^ 40)
  if not bytes then
    return nil, code, message
  elseif bytes == -1 then
    return wire.null
  elseif bytes ~= buffer:size() then
    done, code, message = skip(conn, bytes)
    return bytes, not done and code or nil, message
  end
  done, code, message = true, nil, nil
  if bytes > 0 then
    done, code, message = conn:read_exactly_into(buffer)
  end
  if done then
    done, code, message = ends_line(conn)
  end
  return done, code, message
end

return wire
