-- SPDX-License-Identifier: MIT
--
-- The part of MessagePack that the wire protocol uses, in plain LuaJIT: one value to bytes and back.
--
-- What Lua cannot tell apart is spelled out: `null` is nil inside a list or a map, `bin(s)` is a byte string,
-- `float(x)` a number that must travel as a float, `map(t)` an empty map. Integers beyond 2^53 are int64_t or uint64_t
-- cdata. Decoding is strict: bytes that end early or go on after the value are errors with their position.

local ffi = require 'ffi'

local M = {}

local DEPTH_MAX = 32

---nil as a member of a list or a map.
M.null = setmetatable({}, { __tostring = function() return 'null' end })

local Bin = {}
local Float = {}
local Map = {}

---@class Bin
---@field bytes string

---@param bytes string
---@return Bin
function M.bin(bytes) return setmetatable({ bytes = bytes }, Bin) end

---@param number number
function M.float(number) return setmetatable({ number = number }, Float) end

---Marks a table as a map, also when it is empty.
function M.map(t) return setmetatable(t, Map) end

---@param value any
---@return 'null'|'boolean'|'integer'|'string'|'bin'|'float'|'map'|'array' # what a value is on the wire
function M.kind(value)
  if value == M.null or value == nil then return 'null' end
  local of = type(value)
  if of == 'number' or of == 'cdata' then return 'integer' end
  if of ~= 'table' then return of end
  local mt = getmetatable(value)
  if mt == Bin then return 'bin' end
  if mt == Float then return 'float' end
  if mt == Map then return 'map' end
  return (#value > 0 or next(value) == nil) and 'array' or 'map'
end

local uint64_t, int64_t = ffi.typeof 'uint64_t', ffi.typeof 'int64_t'
local cell = ffi.new('union { double d; float f; uint8_t b[8]; }')

-- The `count` low bytes of an unsigned value, most significant first.
local function big_endian(value, count)
  local bytes = {}
  for i = count, 1, -1 do
    bytes[i] = string.char(tonumber(value % 256))
    value = value / 256
    if type(value) == 'number' then value = math.floor(value) end
  end
  return table.concat(bytes)
end

local function head(first, value, width) return string.char(first) .. big_endian(value, width) end

local function encode_unsigned(value)
  if value < 128 then return string.char(tonumber(value)) end
  if value < 2 ^ 8 then return head(0xcc, value, 1) end
  if value < 2 ^ 16 then return head(0xcd, value, 2) end
  if value < 2 ^ 32 then return head(0xce, value, 4) end
  return head(0xcf, ffi.cast(uint64_t, value), 8)
end

local function encode_integer(value)
  if type(value) == 'cdata' then
    assert(ffi.istype(uint64_t, value) or ffi.istype(int64_t, value), 'only 64-bit integers travel as cdata')
    if ffi.istype(uint64_t, value) or value >= 0 then return encode_unsigned(ffi.cast(uint64_t, value)) end
  else
    assert(value % 1 == 0 and math.abs(value) < 2 ^ 53, 'not an exact integer: wrap it in float()')
    if value >= 0 then return encode_unsigned(value) end
  end
  if value >= -32 then return string.char(256 + tonumber(value)) end
  return head(0xd3, ffi.cast(uint64_t, ffi.cast(int64_t, value)), 8)
end

-- The head of something that has a length: `short` covers lengths below `limit` in one byte (0: no such form).
local function sized(length, short, limit, first8, first16)
  if length < limit then return string.char(short + length) end
  if first8 and length < 2 ^ 8 then return head(first8, length, 1) end
  if length < 2 ^ 16 then return head(first16, length, 2) end
  return head(first16 + 1, length, 4)
end

local function encode_into(out, value, depth)
  assert(depth <= DEPTH_MAX, 'nested too deep')
  local kind = M.kind(value)
  if kind == 'null' then
    out[#out + 1] = '\xc0'
  elseif kind == 'boolean' then
    out[#out + 1] = value and '\xc3' or '\xc2'
  elseif kind == 'integer' then
    out[#out + 1] = encode_integer(value)
  elseif kind == 'float' then
    cell.d = value.number
    out[#out + 1] = '\xcb' .. ffi.string(cell.b, 8):reverse()
  elseif kind == 'string' then
    out[#out + 1] = sized(#value, 0xa0, 32, 0xd9, 0xda) .. value
  elseif kind == 'bin' then
    out[#out + 1] = sized(#value.bytes, 0, 0, 0xc4, 0xc5) .. value.bytes
  elseif kind == 'array' then
    out[#out + 1] = sized(#value, 0x90, 16, nil, 0xdc)
    for i = 1, #value do encode_into(out, value[i], depth + 1) end
  elseif kind == 'map' then
    local count = 0
    for _ in pairs(value) do count = count + 1 end
    out[#out + 1] = sized(count, 0x80, 16, nil, 0xde)
    for name, member in pairs(value) do
      encode_into(out, name, depth + 1)
      encode_into(out, member, depth + 1)
    end
  else
    error('a ' .. kind .. ' has no form in MessagePack')
  end
end

---@param value any
---@return string
function M.encode(value)
  local out = {}
  encode_into(out, value, 0)
  return table.concat(out)
end

local Reader = {}
Reader.__index = Reader

function Reader:take(count)
  local first = self.at
  if first + count - 1 > #self.text then
    error(('ends at byte %d, %d more expected'):format(#self.text, first + count - 1 - #self.text), 0)
  end
  self.at = first + count
  return first
end

-- An unsigned number of `width` bytes; a plain number as long as that is exact.
function Reader:unsigned(width)
  local first = self:take(width)
  local value = width == 8 and 0ULL or 0
  for i = first, first + width - 1 do value = value * 256 + self.text:byte(i) end
  if width == 8 and value < 2ULL ^ 53 then return tonumber(value) end
  return value
end

function Reader:signed(width)
  local value = self:unsigned(width)
  if width == 8 then
    value = ffi.cast(int64_t, ffi.cast(uint64_t, value))
    return value > -2 ^ 53 and value < 2 ^ 53 and tonumber(value) or value
  end
  local half = 2 ^ (8 * width - 1)
  return value >= half and value - 2 * half or value
end

function Reader:bytes(count)
  local first = self:take(count)
  return self.text:sub(first, first + count - 1)
end

function Reader:float(width)
  ffi.copy(cell.b, self:bytes(width):reverse(), width)
  return M.float(width == 8 and cell.d or tonumber(cell.f))
end

function Reader:array(count, depth)
  local list = {}
  for i = 1, count do list[i] = self:value(depth + 1) end
  return list
end

function Reader:map(count, depth)
  local t = {}
  for _ = 1, count do
    local name = self:value(depth + 1)
    t[name] = self:value(depth + 1)
  end
  return M.map(t)
end

local by_first = {
  [0xc0] = function() return M.null end,
  [0xc2] = function() return false end,
  [0xc3] = function() return true end,
  [0xca] = function(r) return r:float(4) end,
  [0xcb] = function(r) return r:float(8) end,
}
for i, width in ipairs { 1, 2, 4, 8 } do
  by_first[0xcb + i] = function(r) return r:unsigned(width) end
  by_first[0xcf + i] = function(r) return r:signed(width) end
end
for i, width in ipairs { 1, 2, 4 } do
  by_first[0xc3 + i] = function(r) return M.bin(r:bytes(r:unsigned(width))) end
  by_first[0xd8 + i] = function(r) return r:bytes(r:unsigned(width)) end
end
for i, width in ipairs { 2, 4 } do
  by_first[0xdb + i] = function(r, depth) return r:array(r:unsigned(width), depth) end
  by_first[0xdd + i] = function(r, depth) return r:map(r:unsigned(width), depth) end
end

function Reader:value(depth)
  if depth > DEPTH_MAX then error('nested too deep', 0) end
  local first = self.text:byte(self:take(1))
  if first < 0x80 then return first end
  if first >= 0xe0 then return first - 256 end
  if first < 0x90 then return self:map(first - 0x80, depth) end
  if first < 0xa0 then return self:array(first - 0x90, depth) end
  if first < 0xc0 then return self:bytes(first - 0xa0) end
  local read = by_first[first]
  if not read then error(('byte 0x%02x begins no known value'):format(first), 0) end
  return read(self, depth)
end

-- Answers are read interpreted: compiled by Debian's LuaJIT, the reader took a valid one for too short once in some
-- ten thousand requests.
for _, method in pairs(Reader) do
  if type(method) == 'function' then jit.off(method, true) end
end
for _, read in pairs(by_first) do jit.off(read, true) end

---Raises an error, with the position, for bytes that are not exactly one value.
---@param text string
---@return any value # nil is `null`
function M.decode(text)
  local reader = setmetatable({ text = text, at = 1 }, Reader)
  local value = reader:value(0)
  if reader.at ~= #text + 1 then error(('%d bytes too many'):format(#text + 1 - reader.at), 0) end
  return value
end

return M
