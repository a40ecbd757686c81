-- SPDX-License-Identifier: MIT
--
-- redis.slots - which of a cluster's 16,384 slots a key belongs to, and which nodes serve a slot, as CLUSTER SLOTS
-- tells. Pure functions.
--
-- Hash slots and tags: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/

local bit = require 'bit'

local band, bxor, lshift, rshift = bit.band, bit.bxor, bit.lshift, bit.rshift

local slots = { COUNT = 16384 }

-- CRC-16/XMODEM (polynomial 0x1021, initial value 0), a byte at a time.
local crc_table = {}
for byte = 0, 255 do
  local crc = lshift(byte, 8)
  for _ = 1, 8 do
    crc = band(crc, 0x8000) ~= 0 and bxor(lshift(crc, 1), 0x1021) or lshift(crc, 1)
  end
  crc_table[byte] = band(crc, 0xffff)
end

local function crc16(text)
  local crc = 0
  for i = 1, #text do
    crc = bxor(band(lshift(crc, 8), 0xffff), crc_table[bxor(rshift(crc, 8), text:byte(i))])
  end
  return crc
end

---The slot of a key. If it has a non-empty {tag}, only the first such tag counts.
---@param key string
---@return integer 0 to 16383
function slots.of(key)
  local tag = key:match '^[^{]*{([^}]+)}'
  return band(crc16(tag or key), slots.COUNT - 1)
end

-- A node's address. A server that does not know its own name leaves it out: it is the one that was asked.
local function address(entry, asked)
  local host, port = entry[1], entry[2]
  if type(port) ~= 'number' or port < 1 or port > 65535 then
    return nil
  end
  if type(host) ~= 'string' or host == '' or host == '?' then
    host = asked
  end
  return host .. ':' .. port
end

---The reply of CLUSTER SLOTS as { [slot] = { master, replica... } }, addresses as 'host:port'; slots of one range share
---their table.
---@param reply any
---@param asked string host of the node that answered
---@return table<integer, string[]>? owners
---@return string? wrong
function slots.parse(reply, asked)
  local owners = {}
  if type(reply) ~= 'table' or #reply == 0 then
    return nil, 'the cluster has no slots'
  end
  for _, range in ipairs(reply) do
    local first, last, nodes = range[1], range[2], {}
    if type(first) ~= 'number' or type(last) ~= 'number' or first < 0 or last >= slots.COUNT then
      return nil, 'CLUSTER SLOTS: a range is not a range of slots'
    end
    for i = 3, #range do
      nodes[#nodes + 1] = type(range[i]) == 'table' and address(range[i], asked) or nil
    end
    if #nodes == 0 then
      return nil, 'CLUSTER SLOTS: a range has no node'
    end
    for slot = first, last do
      owners[slot] = nodes
    end
  end
  return owners
end

---Where a redirection points: 'MOVED 3999 127.0.0.1:6381'.
---@param text string
---@param asked string host of the node that answered
---@return integer? slot
---@return string? address
function slots.redirection(text, asked)
  local slot, host, port = text:match '^%u+ (%d+) (%S-):(%d+)$'
  slot, port = tonumber(slot), tonumber(port)
  if not slot or slot >= slots.COUNT or not port or port < 1 or port > 65535 then
    return nil
  end
  return slot, (host == '' and asked or host) .. ':' .. port
end

return slots
