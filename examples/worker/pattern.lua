-- SPDX-License-Identifier: MIT
--
-- Deterministic prompts and payloads, so that every byte that comes back can be judged by computing it again.

local bit = require 'bit'
local ffi = require 'ffi'

local M = {}

---Tokens of a prompt: 5 + (start + i) % 4000, the sequence of the recorded fixtures.
---@param start integer two prompts share a prefix only if their starts are equal (mod 4000)
---@param count integer
---@return integer[]
function M.tokens(start, count)
  local tokens = {}
  for i = 0, count - 1 do tokens[i + 1] = 5 + (start + i) % 4000 end
  return tokens
end

-- The n-th output of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014). Its state
-- only ever grows by one constant, so no state is carried from word to word; Debian's LuaJIT also miscompiles a loop
-- that carries a boxed uint64_t.
local function splitmix64(seed, n)
  local z = seed + 0x9e3779b97f4a7c15ULL * n
  z = bit.bxor(z, bit.rshift(z, 30)) * 0xbf58476d1ce4e5b9ULL
  z = bit.bxor(z, bit.rshift(z, 27)) * 0x94d049bb133111ebULL
  return bit.bxor(z, bit.rshift(z, 31))
end

---The seed of one chunk's payload: any change of an argument gives other bytes.
---@return ffi.cdata* seed # uint64_t
function M.seed(start, chunk, worker, salt)
  local seed = splitmix64(ffi.cast('uint64_t', start) * 0x10001ULL + chunk, 1 + (worker or 0))
  for i = 1, #(salt or '') do seed = splitmix64(seed, salt:byte(i)) end
  return seed
end

---@param pointer ffi.cdata* uint8_t *
---@param length integer a multiple of 8
function M.fill(pointer, length, seed)
  local words = ffi.cast('uint64_t *', pointer)
  for i = 0, length / 8 - 1 do words[i] = splitmix64(seed, i) end
end

---@return integer? offset # of the first wrong byte's word, nil when every byte is right
function M.differs(pointer, length, seed)
  local words = ffi.cast('uint64_t *', pointer)
  for i = 0, length / 8 - 1 do
    if words[i] ~= splitmix64(seed, i) then return i * 8 end
  end
end

return M
