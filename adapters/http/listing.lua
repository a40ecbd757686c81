-- SPDX-License-Identifier: MIT
--
-- The listing of a directory as nginx writes it (autoindex on; autoindex_format json): one object per line,
--   { "name":"NAME", "type":"file", "mtime":"Mon, 23 Nov 2026 19:30:00 GMT", "size":123 },
-- It is read whole into a buffer, which is doubled until it is large enough, and looked at line by line.

local neap = require 'neap'

local FIRST, LAST = 2 ^ 20, 2 ^ 30 -- bytes of the buffer
local WINDOW = 4096                -- bytes that become text at a time; a line is much shorter
local MONTHS = { Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8, Sep = 9, Oct = 10, Nov = 11,
  Dec = 12 }

-- Days before a month, by Howard Hinnant's civil-from-days in reverse: years begin in March.
local function unix_time(text)
  local day, name, year, hour, min, sec = text:match '(%d+) (%a+) (%d+) (%d+):(%d+):(%d+)'
  local month = MONTHS[name]
  if not month then
    return 0
  end
  local y = month <= 2 and year - 1 or tonumber(year)
  local days = 365 * y + math.floor(y / 4) - math.floor(y / 100) + math.floor(y / 400) +
    math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1 - 719468
  return ((days * 24 + hour) * 60 + min) * 60 + sec
end

local function fetch(client)
  local bytes = FIRST
  while true do
    local buffer, code, message = neap.buffer(bytes)
    if not buffer then
      return nil, code, message
    end
    local response
    response, code, message = client:request { path = '', into = buffer }
    if response and response.status == 200 then
      return buffer, response.bytes
    end
    buffer:free()
    if response then
      return nil, 'EIO', ('the server says %d to a listing'):format(response.status)
    elseif code ~= 'EMSGSIZE' or bytes >= LAST then
      return nil, code, message
    end
    bytes = bytes * 2
  end
end

-- Gives emit what the line says; false: no more is wanted.
local function take(line, emit)
  local name, mtime, size = line:match '"name":%s*"([^"\\]+)".-"mtime":%s*"([^"]*)".-"size":%s*(%d+)'
  local key = name and neap.key(name, 'file')
  return not key or emit(key, tonumber(size), unix_time(mtime))
end

---@param client neap.HttpClient whose base is the directory
---@param emit neap.Emit
return function(client, emit)
  local buffer, bytes, message = fetch(client)
  if not buffer then
    return nil, bytes, message
  end
  local rest = ''
  for at = 0, bytes - 1, WINDOW do
    rest = rest .. buffer:peek(at, math.min(WINDOW, bytes - at))
    local from = 1
    for line, next_line in rest:gmatch '([^\n]*)\n()' do
      if not take(line, emit) then
        return true
      end
      from = next_line
    end
    rest = rest:sub(from)
    if #rest > WINDOW then
      return nil, 'EPROTO', 'the listing is not that of nginx: it has no lines'
    end
  end
  return take(rest, emit) and true
end
