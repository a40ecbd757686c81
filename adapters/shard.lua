-- SPDX-License-Identifier: MIT
--
-- shard - every object in one of several stores, chosen by a hash of its key.
--
--   {"type": "shard", "names": ["a", "b"], "stores": [{"type": "redis", ...}, {"type": "redis", ...}]}
--
-- Rendezvous hashing (Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1996): each store draws a
-- number for each key and the highest has it, so a store that is added takes its share from all others and nothing else
-- moves. The draw is by name, not by place, and made of FNV-1a (Fowler, Noll and Vo) and the finalizer of MurmurHash3
-- (Appleby, 2011).

local bit = require 'bit'
local neap = require 'neap'
local stores = require 'neap.stores'

local M = {}

M.ShardAdapterConfig = {
  stores = { type = 'array', required = true, min = 1, max = 64, doc = 'configurations of the stores' },
  names = { type = 'array', min = 1, max = 64, doc = 'names that stay with the stores; their numbers if not given' },
}

local function fnv1a(text)
  local hash = 0xcbf29ce484222325ULL
  for i = 1, #text do
    hash = bit.bxor(hash, text:byte(i)) * 0x100000001b3ULL
  end
  return hash
end

local function mix(x)
  x = bit.bxor(x, bit.rshift(x, 33)) * 0xff51afd7ed558ccdULL
  x = bit.bxor(x, bit.rshift(x, 33)) * 0xc4ceb9fe1a85ec53ULL
  return bit.bxor(x, bit.rshift(x, 33))
end

-- The hash of a key is one of all its tokens already: some bits of it, and what tells its namesakes apart, are enough.
local function number_of(key)
  local hash = key.hash
  local first, last = 0ULL + tonumber(hash:sub(1, 13), 16), 0ULL + tonumber(hash:sub(-13), 16)
  return bit.bxor(mix(first), last, mix(key.rank * 65536ULL + key.group), fnv1a(key.salt))
end

local function owner_of(self, key)
  local number, best, owner = number_of(key), nil, nil
  for i, seed in ipairs(self.seeds) do
    local draw = mix(bit.bxor(seed, number))
    if not best or draw > best then
      best, owner = draw, i
    end
  end
  return owner
end

-- Each store gets its keys as one batch, all of them at once; the results go where the keys came from.
local function scatter(self, method, keys, buffers)
  local places, results = {}, {}
  for i, key in ipairs(keys) do
    local owner = owner_of(self, key)
    places[owner] = places[owner] or {}
    table.insert(places[owner], i)
  end
  local calls = {}
  for owner, of_owner in pairs(places) do
    calls[#calls + 1] = function()
      local got = stores.call_at(method, self.stores[owner], keys, buffers, 0, of_owner)
      for j, i in ipairs(of_owner) do
        results[i] = got[j]
      end
    end
  end
  stores.together(calls)
  return results
end

local function check_names(names, count)
  local seen = {}
  if #names ~= count then
    return ('names has %d items, expected one for each of the %d stores'):format(#names, count)
  end
  for i, name in ipairs(names) do
    if type(name) ~= 'string' or seen[name] then
      return ('names[%d] is %s, expected a string that no other store has'):format(i - 1, tostring(name))
    end
    seen[name] = true
  end
end

M.ShardAdapter = neap.adapter {
  version = '1.0',

  open = function(self, params)
    local names = params.names
    local wrong = names and check_names(names, #params.stores)
    if wrong then
      return nil, 'EINVAL', wrong
    end
    local members, code, message = stores.open(params.stores, 'stores')
    if not members then
      return nil, code, message
    end
    self.stores = members
    self.seeds = {}
    for i in ipairs(self.stores) do
      self.seeds[i] = mix(fnv1a(names and names[i] or tostring(i)))
    end
  end,

  store_batch = function(self, keys, buffers)
    return scatter(self, 'store', keys, buffers)
  end,

  lookup_batch = function(self, keys)
    return scatter(self, 'lookup', keys)
  end,

  load_batch = function(self, keys, buffers)
    return scatter(self, 'load', keys, buffers)
  end,

  delete_batch = function(self, keys)
    return scatter(self, 'delete', keys)
  end,

  list = function(self, emit)
    return stores.list(self.stores, emit)
  end,

  status = function(self)
    return stores.status(self.stores, #self.stores)
  end,
}

return M
