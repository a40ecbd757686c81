-- SPDX-License-Identifier: MIT
--
-- fault - a store that fails as it is told to, around one that works. For tests and drills.
--
--   {"type": "fault", "seed": 7, "inner": {"type": "fs", ...}, "rules": [
--     {"op": "load", "every": 10, "do": "flip"}, {"op": "store", "rate": 0.01, "do": "error", "code": "ENOSPC"}]}
--
-- A rule counts the objects of its `op` (load, store, lookup, delete or any), passes over the first `after`, then acts
-- on each `every`th, or with the chance `rate`, at most `times` times. The first rule that acts on an object has it:
--   error       fails with `code` (EIO)                      miss    says that the object is not there
--   delay       takes `seconds` (0.1) longer                 hang    takes `seconds` (a day), until it is canceled
--   flip        one bit of what is loaded or stored is wrong, and nobody is told
--   short       only the first half is loaded or stored, and nobody is told
--   disconnect  fails with EIO, and so does all that follows for `seconds` (1)
-- The same seed and the same operations fail in the same way.
--
-- rate, gap_indices and gap_tail_ratios beside the rules are those of LMCache's fault_inject: loads of such objects
-- fail, by key, by place from the front of an operation, and by place from its end as a part of its length.

local bit = require 'bit'
local neap = require 'neap'
local stores = require 'neap.stores'

local M = {}

M.FaultAdapterConfig = {
  inner = { type = 'object', required = true, doc = 'configuration of the store that works' },
  rules = { type = 'array', live = true, doc = 'what goes wrong, and when' },
  seed = { type = 'integer', default = 0, doc = 'of all that is left to chance' },
  rate = { type = 'number', min = 0, max = 1, default = 0, live = true, doc = 'part of the keys whose loads fail' },
  gap_indices = { type = 'array', live = true, doc = 'places whose loads fail, from 0' },
  gap_tail_ratios = { type = 'array', live = true, doc = 'the same from the end: 0 the last, 1 the first' },
}

local OPS = { load = true, store = true, lookup = true, delete = true, any = true }
local DEEDS = { error = true, miss = true, delay = 0.1, hang = 86400, flip = true, short = true, disconnect = 1 }
local NUMBERS = { every = 1, rate = 0, after = 0, times = 0, seconds = 0 }

local function check_rule(rule)
  if type(rule) ~= 'table' then
    return (' is a %s, expected an object such as {"op": "load", "do": "error"}'):format(type(rule))
  elseif not OPS[rule.op] then
    return (".op is '%s', expected load, store, lookup, delete or any"):format(tostring(rule.op))
  elseif not DEEDS[rule['do']] then
    return (".do is '%s', expected error, miss, delay, hang, flip, short or disconnect"):format(tostring(rule['do']))
  end
  for name, value in pairs(rule) do
    local least = NUMBERS[name]
    if least and (type(value) ~= 'number' or value < least) then
      return ('.%s is %s, expected a number of at least %d'):format(name, tostring(value), least)
    elseif not least and name ~= 'op' and name ~= 'do' and not (name == 'code' and type(value) == 'string') then
      return ('.%s is not known; a rule has op, do, every, rate, after, times, seconds and code'):format(name)
    end
  end
end

local function check_gaps(list, name, most)
  for i, value in ipairs(list) do
    if type(value) ~= 'number' or value < 0 or value > most then
      return ('%s[%d] is %s, expected a number from 0 to %g'):format(name, i - 1, tostring(value), most)
    end
  end
end

-- Park and Miller, "Random number generators: good ones are hard to find" (1988).
local function random(self)
  self.state = self.state * 16807 % 2147483647
  return self.state / 2147483647
end

-- The part of the keys that LMCache's `rate` picks, by a hash of its own.
local function is_picked(self, key)
  local first, last = tonumber(key.hash:sub(1, 8), 16), tonumber(key.hash:sub(-8), 16)
  local number = bit.bxor(first, last, self.seed * 0x9e3779b1 % 4294967296, key.rank)
  return self.rate > 0 and number % 1000000 < self.rate * 1000000
end

-- As Python rounds: halves to the even one.
local function round(x)
  local whole = math.floor(x + 0.5)
  return x % 1 == 0.5 and whole % 2 == 1 and whole - 1 or whole
end

local function is_gap(self, key, place, count)
  for _, gap in ipairs(self.gap_indices) do
    if gap == place then
      return true
    end
  end
  for _, ratio in ipairs(self.gap_tail_ratios) do
    if round((1 - ratio) * (count - 1)) == place then
      return true
    end
  end
  return is_picked(self, key)
end

local function acts(self, rule, op)
  if rule.op ~= op and rule.op ~= 'any' then
    return false
  end
  rule.seen = rule.seen + 1
  if rule.seen <= (rule.after or 0) or rule.done >= (rule.times or math.huge) then
    return false
  elseif rule.rate and random(self) >= rule.rate then
    return false
  elseif (rule.seen - (rule.after or 0)) % (rule.every or 1) ~= 0 then
    return false
  end
  rule.done = rule.done + 1
  return true
end

-- The rule that has this object, if any; all rules count it.
local function rule_for(self, op)
  local first
  for _, rule in ipairs(self.rules) do
    first = acts(self, rule, op) and not first and rule or first
  end
  return first
end

local function flip(self, buffer)
  local size = buffer:size()
  if size > 0 then
    local place = math.floor(random(self) * size)
    buffer:poke(place, string.char(bit.bxor(buffer:peek(place, 1):byte(), 2 ^ math.floor(random(self) * 8))))
  end
end

local function store_damaged(self, deed, key, buffer)
  local bytes = deed == 'short' and math.floor(buffer:size() / 2) or buffer:size()
  local copy, code, message = neap.buffer(bytes)
  if not copy then
    return nil, code, message
  end
  copy:copy(buffer, 0, 0, bytes)
  if deed == 'flip' then
    flip(self, copy)
  end
  local stored, why, text = self.inner:store(key, copy)
  copy:free()
  return stored, why, text
end

local function load_damaged(self, deed, key, buffer)
  local whole, code, message = neap.buffer(buffer:size())
  if not whole then
    return nil, code, message
  end
  local found, why, text = self.inner:load(key, whole)
  if found then
    flip(self, whole)
    buffer:copy(whole, 0, 0, deed == 'short' and math.floor(buffer:size() / 2) or buffer:size())
  end
  whole:free()
  return found, why, text
end

-- What becomes of one object that a rule has. No result: it goes on as if nothing had been.
local function suffer(self, rule, op, key, buffer)
  local deed = rule['do']
  if deed == 'error' then
    return rule.code or 'EIO'
  elseif deed == 'miss' and op ~= 'store' then
    return false
  elseif deed == 'delay' or deed == 'hang' then
    neap.sleep(rule.seconds or DEEDS[deed])
  elseif deed == 'disconnect' then
    self.down_until = neap.now() + (rule.seconds or DEEDS[deed])
    return 'EIO'
  elseif op == 'store' or op == 'load' then
    local result, code = (op == 'store' and store_damaged or load_damaged)(self, deed, key, buffer)
    return result == nil and code or result
  end
end

-- Faults first, each by itself; what is left goes below as one batch.
local function run(self, op, keys, buffers)
  local results, places = {}, {}
  for i, key in ipairs(keys) do
    local rule = rule_for(self, op)
    if self.down_until > neap.now() or (op == 'load' and is_gap(self, key, i - 1, #keys)) then
      results[i] = 'EIO'
    elseif rule then
      self.faults[rule['do']] = (self.faults[rule['do']] or 0) + 1
      results[i] = suffer(self, rule, op, key, buffers and buffers[i])
    end
    places[#places + 1] = results[i] == nil and i or nil
  end
  local got = #places > 0 and stores.call_at(op, self.member, keys, buffers, 0, places) or {}
  for j, i in ipairs(places) do
    results[i] = got[j]
  end
  return results
end

M.FaultAdapter = neap.adapter {
  version = '1.0',

  open = function(self, params)
    local done, why, text = self:reconfigure(params)
    if not done then
      return nil, why, text
    end
    local members, code, message = stores.open({ params.inner }, 'inner')
    if not members then
      return nil, code, (message:gsub('^inner%[0%]', 'inner'))
    end
    self.member, self.inner = members[1], members[1].store
    self.seed, self.state = params.seed, params.seed % 2147483646 + 1
    self.down_until, self.faults = 0, {}
    neap.log.warn('fault injection is on around %s: for tests only', tostring(params.inner.type))
  end,

  reconfigure = function(self, params)
    local rules, indices, ratios = params.rules or {}, params.gap_indices or {}, params.gap_tail_ratios or {}
    for i, rule in ipairs(rules) do
      local wrong = check_rule(rule)
      if wrong then
        return nil, 'EINVAL', ('rules[%d]%s'):format(i - 1, wrong)
      end
      rule.seen, rule.done = 0, 0
    end
    local wrong = check_gaps(indices, 'gap_indices', 2 ^ 32) or check_gaps(ratios, 'gap_tail_ratios', 1)
    if wrong then
      return nil, 'EINVAL', wrong
    end
    self.rules, self.rate, self.gap_indices, self.gap_tail_ratios = rules, params.rate, indices, ratios
    return true
  end,

  store_batch = function(self, keys, buffers)
    return run(self, 'store', keys, buffers)
  end,

  lookup_batch = function(self, keys)
    return run(self, 'lookup', keys)
  end,

  load_batch = function(self, keys, buffers)
    return run(self, 'load', keys, buffers)
  end,

  delete_batch = function(self, keys)
    return run(self, 'delete', keys)
  end,

  list = function(self, emit)
    return stores.list({ self.member }, emit)
  end,

  status = function(self)
    return { faults = self.faults, inner = self.inner:status() or {} }
  end,
}

return M
