-- SPDX-License-Identifier: MIT
--
-- neap.stores - several stores behind one adapter: what mirror, tier and shard have in common. A member that fails is
-- left alone for a while, so that a store that is down costs one attempt now and then and not every operation.

local concurrent = require 'neap.concurrent'
local core = require 'neap.core'
local open = require 'neap.store'

---@class neap.Member
---@field store neap.Store
---@field name string its type and place, for messages
---@field sick_until number
---@field failures integer
---@field last_failure? string

local stores = {}

-- Failures of one object, which say nothing about the store.
local of_object = { ENOENT = true, ECORRUPT = true, ENOSPC = true, ECANCELED = true, EINVAL = true, ELIMIT = true }

--- Opens what the configurations describe; all of them or none.
---@param configs table[]
---@param field string the parameter's name, for messages
---@return neap.Member[]? members
---@return string? code
---@return string? message
function stores.open(configs, field)
  local members = {}
  for i, config in ipairs(configs) do
    local name = ('%s[%d]'):format(field, i - 1)
    local store, code, message
    if type(config) == 'table' then
      store, code, message = open(config)
    else
      code, message = 'EINVAL', 'expected the configuration of an adapter'
    end
    if not store then
      return nil, code, ('%s: %s'):format(name, message)
    end
    members[i] = { store = store, name = name .. ' ' .. config.type, sick_until = 0, failures = 0 }
  end
  return members
end

--- Those that are not left alone, in order; all of them when there is no other.
---@param members neap.Member[]
---@return neap.Member[]
function stores.usable(members)
  local usable, now = {}, core.now()
  for _, member in ipairs(members) do
    if member.sick_until <= now then
      usable[#usable + 1] = member
    end
  end
  return usable[1] and usable or members
end

-- After a cancel the await raises; its text is that of the engine's code.
local function ended(message)
  local why = type(message) == 'string' and message:match '^neap: (.*)'
  if not why then
    error(message, 0)
  end
  return nil, why:find 'deadline' and 'ETIMEDOUT' or 'ECANCELED'
end

local function settle(ok, results, code)
  if ok then
    return results, code
  end
  return ended(results)
end

--- One operation on one member. Does not raise when the operation above was canceled: what was done before counts.
---@param method 'store'|'lookup'|'load'|'delete'
---@param member neap.Member
---@param keys neap.Key[]
---@param buffers? neap.Buffer[]
---@param rest number seconds that a member is left alone after a failure
---@return (boolean|integer|string)[] results one per key, failures as codes
function stores.call(method, member, keys, buffers, rest)
  local store = member.store
  local results, code = settle(pcall(store[method .. '_batch'], store, keys, buffers))
  results = results or {}
  local failure = not of_object[code] and code or nil
  for i = 1, #keys do
    if results[i] == nil then
      results[i] = code or 'EIO'
    end
    local result = results[i]
    failure = failure or (type(result) == 'string' and not of_object[result] and result) or nil
  end
  if failure then
    member.failures = member.failures + 1
    member.last_failure = failure
    member.sick_until = core.now() + rest
  end
  return results
end

--- Runs functions at the same time, or, after a cancel that came before they could start, one after the other: what
--- they have to say of it is theirs.
---@param functions (fun())[]
function stores.together(functions)
  local started, wrapped = {}, {}
  for i, run in ipairs(functions) do
    wrapped[i] = function()
      started[i] = true
      run()
    end
  end
  local ok, outcomes = true, {}
  if #functions > 1 then
    ok, outcomes = pcall(concurrent.all, wrapped)
  end
  if not ok then
    ended(outcomes)
    outcomes = {}
  end
  for i, run in ipairs(functions) do
    if not started[i] then
      run()
    elseif outcomes[i] and not outcomes[i].ok then
      error(outcomes[i].error, 0)
    end
  end
end

local function pick(all, places)
  local picked = {}
  for j, i in ipairs(places) do
    picked[j] = all[i]
  end
  return picked
end

--- Asks one member after the other for what those before did not have.
---@param method 'lookup'|'load'
---@param members neap.Member[]
---@param keys neap.Key[]
---@param buffers? neap.Buffer[]
---@param rest number
---@param found? fun(at: integer, places: integer[]) the at-th member had the keys at these places
---@return (boolean|integer|string)[] results damage counts more than a miss, and a miss more than other failures
function stores.first(method, members, keys, buffers, rest, found)
  local results, left = {}, {}
  for i = 1, #keys do
    left[i] = i
  end
  for at, member in ipairs(members) do
    if #left == 0 then
      break
    end
    local got = stores.call(method, member, pick(keys, left), buffers and pick(buffers, left), rest)
    local had, still = {}, {}
    for j, i in ipairs(left) do
      local has = got[j] and type(got[j]) ~= 'string'
      local list = has and had or still
      list[#list + 1] = i
      if has or got[j] == 'ECORRUPT' or results[i] == nil or (got[j] == false and results[i] ~= 'ECORRUPT') then
        results[i] = got[j]
      end
    end
    left = still
    if found and #had > 0 then
      found(at, had)
    end
  end
  return results
end

--- Calls one member for the keys at some places.
---@param method 'store'|'lookup'|'load'|'delete'
---@param member neap.Member
---@param keys neap.Key[]
---@param buffers? neap.Buffer[]
---@param rest number
---@param places integer[]
---@return (boolean|integer|string)[]
function stores.call_at(method, member, keys, buffers, rest, places)
  return stores.call(method, member, pick(keys, places), buffers and pick(buffers, places), rest)
end

-- Offers the keys that lack copies to one more member. Who was first is for the first of an object's members to say:
-- of stores at the same time one gets there before the others, and only that one reports the bytes.
local function add_copies(members, at, keys, buffers, copies, rest, state)
  local member, places = members[at], {}
  for i = 1, #keys do
    places[#places + 1] = state.copies[i] < copies and i or nil
  end
  if #places == 0 then
    return
  end
  for j, result in ipairs(stores.call_at('store', member, keys, buffers, rest, places)) do
    local i = places[j]
    if type(result) == 'number' then
      state.copies[i] = state.copies[i] + 1
      if at < state.first[i] then
        state.first[i], state.bytes[i] = at, result
      end
      state.written[i][#state.written[i] + 1] = result > 0 and member or nil
    else
      state.failure[i] = state.failure[i] or result
    end
  end
end

--- Writes each object to the first members that take it, to as many at once as it needs. With less than `quorum`
--- copies a store has failed, and what was written of it is removed.
---@param members neap.Member[]
---@param keys neap.Key[]
---@param buffers neap.Buffer[]
---@param copies integer
---@param quorum integer
---@param rest number
---@return (integer|string)[]
function stores.write(members, keys, buffers, copies, quorum, rest)
  local state = { copies = {}, bytes = {}, first = {}, written = {}, failure = {} }
  for i = 1, #keys do
    state.copies[i], state.bytes[i], state.first[i], state.written[i] = 0, 0, math.huge, {}
  end
  local wave = {}
  for i = 1, math.min(copies, #members) do
    wave[i] = function()
      add_copies(members, i, keys, buffers, copies, rest, state)
    end
  end
  stores.together(wave)
  for i = copies + 1, #members do
    add_copies(members, i, keys, buffers, copies, rest, state)
  end
  for i, key in ipairs(keys) do
    if state.copies[i] < quorum then
      for _, member in ipairs(state.written[i]) do
        stores.call('delete', member, { key }, nil, rest)
      end
      state.bytes[i] = state.failure[i] or 'EIO'
    end
  end
  return state.bytes
end

--- Removes keys from all members. What one could not remove is a failure, for it would come back.
---@param members neap.Member[]
---@param keys neap.Key[]
---@param rest number
---@return (boolean|string)[]
function stores.delete(members, keys, rest)
  local results, calls = {}, {}
  for m, member in ipairs(members) do
    calls[m] = function()
      for i, result in ipairs(stores.call('delete', member, keys, nil, rest)) do
        if type(results[i]) ~= 'string' and (type(result) == 'string' or not results[i]) then
          results[i] = result
        end
      end
    end
  end
  stores.together(calls)
  return results
end

--- Lists all members; an object that several have is told once.
---@param members neap.Member[]
---@param emit neap.Emit
---@return nil
---@return string? code
---@return string? message
function stores.list(members, emit)
  local seen = {}
  for at, member in ipairs(members) do
    local entries, code, message = member.store:list()
    if not entries then
      return nil, code, ('%s: %s'):format(member.name, message)
    end
    for key, bytes, used in entries do
      local text = key.text
      if not seen[text] and not emit(key, bytes, used) then
        return
      end
      seen[text] = at < #members or nil
    end
  end
end

---@param members neap.Member[]
---@param needed integer members that must be usable
---@return table
function stores.status(members, needed)
  local facts, usable = {}, 0
  for i, member in ipairs(members) do
    local own = member.store:status() or {}
    local healthy = own.is_healthy ~= false and member.sick_until <= core.now()
    usable = usable + (healthy and 1 or 0)
    facts[i] = { name = member.name, is_healthy = healthy, failures = member.failures,
      last_failure = member.last_failure, status = own }
  end
  return { is_healthy = usable >= needed, stores = facts }
end

return stores
