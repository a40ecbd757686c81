-- SPDX-License-Identifier: MIT
--
-- The parts of lua/neap/policy_parts.lua against naive models of themselves: a policy whose `new` raises if one does
-- not do what it says. Run by test_lua_policy.c; ctx.chunk tells tenants 0, 1, 2, by slot modulo 3, but not while the
-- file is loaded.

local policy = require 'neap.policy'

local SLOTS, STEPS = 20, 4000

local function same(what, got, expected)
  if got ~= expected then
    error(('%s: got %s, expected %s'):format(what, tostring(got), tostring(expected)), 2)
  end
end

local function refused(expected, f, ...)
  local ok, message = pcall(f, ...)
  if ok or not message:find(expected, 1, true) or not message:find('policy_parts.lua:%d+: ') then
    error(("got '%s', expected a line of this file and '%s'"):format(tostring(message), expected), 2)
  end
end

-- An array, oldest first, and who has been taken out.
local function model_of_lists(count)
  local model = { order = {}, out = {} }
  for n = 1, count do
    model.order[n], model.out[n] = {}, {}
  end
  function model.find(n, slot)
    for i, s in ipairs(model.order[n]) do
      if s == slot then
        return i
      end
    end
  end
  function model.forget(slot)
    for n = 1, count do
      local i = model.find(n, slot)
      if i then
        table.remove(model.order[n], i)
      end
      model.out[n][slot] = nil
    end
  end
  function model.owns(n, slot)
    return model.find(n, slot) ~= nil or model.out[n][slot] == true
  end
  function model.oldest(n, tenant)
    for i, s in ipairs(model.order[n]) do
      if not tenant or s % 3 == tenant then
        return s, i
      end
    end
  end
  return model
end

local function check_lists(below)
  local lists, model = { policy.lists(SLOTS, 3) }, model_of_lists(3)
  local acts = {
    push = function(n, slot)
      model.forget(slot)
      table.insert(model.order[n], slot)
    end,
    push_oldest = function(n, slot)
      model.forget(slot)
      table.insert(model.order[n], 1, slot)
    end,
    touch = function(n, slot)
      local there = model.find(n, slot)
      if there then
        table.insert(model.order[n], table.remove(model.order[n], there))
      end
      return there ~= nil
    end,
    take = function(n, slot)
      if model.find(n, slot) then
        model.forget(slot)
        model.out[n][slot] = true
        return slot
      end
    end,
    keep = function(n, slot)
      local owned = model.owns(n, slot)
      if owned then
        model.forget(slot)
        table.insert(model.order[n], slot)
      end
      return owned
    end,
    remove = function(n, slot)
      local owned = model.owns(n, slot)
      if owned then
        model.forget(slot)
      end
      return owned
    end,
    has = function(n, slot) return model.find(n, slot) ~= nil end,
    owns = model.owns,
    home = function(_, slot)
      for n = 1, 3 do
        if model.owns(n, slot) then
          return n
        end
      end
    end,
    newer = function(n, slot) return model.order[n][(model.find(n, slot) or SLOTS) + 1] end,
    older = function(n, slot) return model.order[n][(model.find(n, slot) or 0) - 1] end,
  }
  local names = {}
  for name in pairs(acts) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _ = 1, STEPS do
    local name, n, slot, tenant = names[1 + below(#names)], 1 + below(3), below(SLOTS), below(4)
    tenant = tenant < 3 and tenant or nil
    same(name, lists[n][name](lists[n], slot), acts[name](n, slot))
    same('count', lists[n]:count(), #model.order[n])
    same('newest', lists[n]:newest(), model.order[n][#model.order[n]])
    same('oldest', lists[n]:oldest(tenant), (model.oldest(n, tenant)))
    if below(8) == 0 then
      local expected = model.oldest(n, tenant)
      if expected then
        acts.take(n, expected)
      end
      same('pop', lists[n]:pop(tenant), expected)
    end
  end
  refused('list: slot is 20, expected 0 to 19', function() lists[1]:push(SLOTS) end)
  refused("list: slot is 'a', expected 0 to 19", function() lists[1]:remove 'a' end)
  refused('list: slot is ', function() lists[1]:has(0 / 0) end)
  refused('lists: slots is -1', function() local _ = policy.list(-1) end)
end

local function check_heap(below)
  local heap, ranks, turns, turn = policy.heap(SLOTS), {}, {}, 0
  local function first(tenant)
    local best
    for slot, rank in pairs(ranks) do
      if (not tenant or slot % 3 == tenant)
        and (not best or rank < ranks[best] or rank == ranks[best] and turns[slot] < turns[best]) then
        best = slot
      end
    end
    return best
  end
  local count = 0
  for _ = 1, STEPS do
    local slot = below(SLOTS)
    if below(3) > 0 then
      count = count + (ranks[slot] and 0 or 1)
      ranks[slot], turns[slot], turn = below(9) - 4, turn, turn + 1
      heap:put(slot, ranks[slot])
    else
      same('remove', heap:remove(slot), ranks[slot] ~= nil)
      count = count - (ranks[slot] and 1 or 0)
      ranks[slot] = nil
    end
    slot = below(SLOTS)
    same('has', heap:has(slot), ranks[slot] ~= nil)
    same('rank', heap:rank(slot), ranks[slot])
    same('count', heap:count(), count)
    same('first', heap:first(), first())
    same('first of a tenant', heap:first(slot % 3), first(slot % 3))
  end
  refused('heap: the rank of slot 1 is ', function() heap:put(1, 0 / 0) end)
  refused('heap: slot is -1, expected 0 to 19', function() heap:put(-1, 0) end)
end

local function check_ghost(below)
  local room = 12
  local ghost, model = policy.ghost(room), { {}, {} }
  local function find(e)
    local found
    for side = 1, 2 do
      for i, entry in ipairs(model[side]) do
        if entry.h1 == e.h1 and entry.tenant == e.tenant and (not found or entry.at > found.at) then
          found = { side = side, i = i, at = entry.at }
        end
      end
    end
    return found
  end
  for step = 1, STEPS do
    local e = { h1 = below(15), h2 = 7, tenant = below(2), at = step }
    local side, what = 1 + below(2), below(4)
    if what == 0 then
      if #model[1] + #model[2] == room then
        table.remove(#model[side] > 0 and model[side] or model[3 - side], 1)
      end
      table.insert(model[side], e)
      ghost:add(e, side)
    elseif what == 1 then
      local found = find(e)
      same('find', (ghost:find(e)), found and found.side)
      same('take', (ghost:take(e)), found and found.side)
      if found then
        table.remove(model[found.side], found.i)
      end
    elseif what == 2 then
      same('drop', ghost:drop(side), table.remove(model[side], 1) ~= nil)
    else
      local most = below(room) + 0.5
      while #model[side] > most do
        table.remove(model[side], 1)
      end
      ghost:trim(most, side)
    end
    same('count', ghost:count(1), #model[1])
    same('count', ghost:count(2), #model[2])
  end
  local nothing = policy.ghost(0)
  nothing:add { h1 = 1, h2 = 2, tenant = 3 }
  same('no room', nothing:find { h1 = 1, h2 = 2, tenant = 3 }, nil)
  refused('ghost: side is 3, expected 1 or 2', function() ghost:drop(3) end)
end

local function check_small_ones(below)
  local sketch, seen = policy.sketch(200), {}
  for _ = 1, STEPS do
    local name = below(100)
    seen[name] = (seen[name] or 0) + 1
    sketch:add { h1 = name, h2 = 1, tenant = 0 }
  end
  for name, count in pairs(seen) do
    local estimate = sketch:estimate { h1 = name, h2 = 1, tenant = 0 }
    same('an estimate is not too low', estimate >= count, true)
    same('an estimate is not far off', estimate <= count + 40, true)
  end

  local sampler, rng, inside = policy.sampler(SLOTS), policy.rng(7), {}
  for _ = 1, STEPS do
    local slot = below(SLOTS)
    if below(2) == 0 then
      sampler:add(slot)
      inside[slot] = true
    else
      same('remove', sampler:remove(slot), inside[slot] == true)
      inside[slot] = nil
    end
    local drawn, of_tenant = sampler:draw(rng), sampler:draw(rng, 1)
    same('drawn is inside', drawn == nil and next(inside) == nil or inside[drawn] == true, true)
    same('drawn is of the tenant', of_tenant == nil or inside[of_tenant] and of_tenant % 3 == 1, true)
  end
  local again, once = policy.rng(7), policy.rng(7)
  for _ = 1, 100 do
    local n = again:below(1000)
    same('the same seed', n, once:below(1000))
    same('in range', n >= 0 and n < 1000 and n % 1 == 0, true)
  end
  refused('rng: count is 0', function() rng:below(0) end)

  local ewma = policy.ewma(0.25)
  same('empty', ewma:value(), 0)
  ewma:update(8)
  same('updated', ewma:update(16), 10)
  same('value', ewma:value(), 10)
  refused('ewma: weight is 2', function() local _ = policy.ewma(2) end)

  local column = policy.column(SLOTS, 'uint8')
  column[3] = 255
  same('column', column[3] + column[4], 255)
  refused('column: slot is 20, expected 0 to 19', function() column[SLOTS] = 1 end)
  refused("column: the value of slot 1 is 'x', expected a number", function() column[1] = 'x' end)
  refused("column: type is 'int', expected double", function() local _ = policy.column(SLOTS, 'int') end)
  same('share', policy.share(0.1, 25), 2)
end

return policy {
  name = 'parts',
  params = { seed = 1 },
  new = function(ctx)
    local rng = policy.rng(ctx.params.seed)
    local function below(n)
      return rng:below(n)
    end
    if ctx.chunk[1].tenant == 1 then
      check_lists(below)
      check_heap(below)
    end
    check_ghost(below)
    check_small_ones(below)
    return { victim = function() end }
  end,
}
