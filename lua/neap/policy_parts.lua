-- SPDX-License-Identifier: MIT
--
-- neap.policy_parts - what policies are made of: columns, lists, heaps, ghosts, sketches, samplers, averages, random
-- numbers. neap.policy hands them out.
--
-- All memory is taken when a part is made; nothing else here allocates, so a hook that uses parts only never waits for
-- the garbage collector. Every argument is checked, every part knows its members: a slot that does not exist, or is in
-- a list twice, is an error with the line of the policy, never a broken list. The raw memory is not reachable from
-- outside, so that a policy that was given no FFI has none.
--
-- For the compiler's sake each part is a set of closures over one pointer (a constant in the machine code); they are
-- called as methods all the same.
local bit = require 'bit'
local check = require 'neap.policy_check'
local core = require 'neap.core'
local ffi = require 'ffi'
local lists = require 'neap.policy_lists'

local cast, new = ffi.cast, ffi.new
local floor, max, min = math.floor, math.max, math.min
local type = type
local blame, no_slot, own, show, whole = check.blame, check.no_slot, check.own, check.show, check.whole
local SLOTS_MAX = check.SLOTS_MAX

ffi.cdef [[
typedef struct { uint32_t prev, next, h1, h2, tenant, chain, side; int32_t note; } neap_ghost;
typedef struct {
  struct { uint32_t oldest, newest, count; } list[2];
  neap_ghost *ghosts;
  uint32_t *buckets, bucket_mask, room, free, used;
} neap_history;
typedef struct { double rank; uint32_t turn; int32_t item; } neap_heap_entry;
typedef struct { neap_heap_entry *entries; uint32_t *at; uint32_t count, turn; } neap_heap;
typedef struct { uint16_t *counters; uint32_t count; } neap_sketch;
typedef struct {
  uint32_t history_bytes, heap_bytes, sketch_bytes;
  uint32_t (*history_find)(const neap_history *history, uint32_t h1, uint32_t h2, uint32_t tenant);
  void (*history_add)(neap_history *history, uint32_t h1, uint32_t h2, uint32_t tenant, uint32_t side);
  void (*history_drop)(neap_history *history, uint32_t ghost);
  void (*history_trim)(neap_history *history, uint32_t side, uint32_t most);
  void (*heap_put)(neap_heap *heap, uint32_t item, double rank);
  void (*heap_take)(neap_heap *heap, uint32_t item);
  bool (*heap_before)(const neap_heap_entry *a, const neap_heap_entry *b);
  uint32_t (*sketch_counters)(uint32_t names);
  void (*sketch_add)(neap_sketch *sketch, uint32_t h1, uint32_t h2);
  uint32_t (*sketch_estimate)(const neap_sketch *sketch, uint32_t h1, uint32_t h2);
  void (*sketch_halve)(neap_sketch *sketch);
  uint32_t (*random_below)(uint64_t *state, uint32_t below);
} neap_policy_natives;
]]

-- What the built-in policies are made of too, where a loop in C is worth the call.
local native = cast('const neap_policy_natives *', core.policy_natives)
if native.history_bytes ~= ffi.sizeof 'neap_history' or native.heap_bytes ~= ffi.sizeof 'neap_heap'
  or native.sketch_bytes ~= ffi.sizeof 'neap_sketch' then
  error('neap/policy_parts.lua and the engine are of different versions', 0)
end

local parts = { column = lists.column, list = lists.list, lists = lists.lists }

---@class neap.Ghost names of what was evicted, exact, oldest to newest on each of two sides
---@field add fun(self, e: neap.Event, side?: 1|2, note?: integer) the newest of its side (1); if there is no room, the
---oldest goes. The note, 0 if missing, is kept with it, as 32 bits
---@field find fun(self, e: neap.Event): integer?, integer? the side on which the name is, and its note: of equal ones
---the latest
---@field take fun(self, e: neap.Event): integer?, integer? the same, and forgets it
---@field drop fun(self, side?: 1|2): boolean forgets the oldest of a side (1); whether there was one
---@field count fun(self, side?: 1|2): integer
---@field trim fun(self, most: number, side?: 1|2) forgets the oldest of a side (1) beyond `most`

--- A history of names, empty. Equal names may be in it more than once: one hash may be many objects, one per rank.
--- 32 bytes for each name and 4 for each of as many buckets (policies/history.h).
---@param room integer how many names
---@return neap.Ghost
function parts.ghost(room)
  local n, buckets = whole('ghost', 'room', room, 0, SLOTS_MAX), 1
  while buckets < n do
    buckets = buckets * 2
  end
  local names, heads, memory = new('neap_ghost[?]', n + 1), new('uint32_t[?]', buckets), new 'neap_history[1]'
  local name, state = cast('neap_ghost *', names), cast('neap_history *', memory)
  local history_find, history_add, history_drop = native.history_find, native.history_add, native.history_drop
  local history_trim = native.history_trim
  state.ghosts, state.buckets, state.bucket_mask, state.room = names, heads, buckets - 1, n
  local ghost = {}

  -- The engine numbers the sides 0 and 1.
  local function side_of(side)
    if side ~= 1 and side ~= 2 then
      blame('ghost: side is %s, expected 1 or 2', show(side))
    end
    return side - 1
  end

  function ghost.add(_, e, side, note)
    local of = side_of(side or 1)
    if note ~= nil and type(note) ~= 'number' then
      blame('ghost: note is %s, expected a number', show(note))
    end
    if state.list[0].count + state.list[1].count == n then
      if n == 0 then
        return
      end
      local full = state.list[of].count > 0 and of or 1 - of
      history_trim(state, full, state.list[full].count - 1)
    end
    history_add(state, e.h1, e.h2, e.tenant, of)
    name[state.list[of].newest].note = bit.tobit(note or 0)
  end

  function ghost.find(_, e)
    local i = history_find(state, e.h1, e.h2, e.tenant)
    if i ~= 0 then
      return name[i].side + 1, name[i].note
    end
  end

  function ghost.take(_, e)
    local i = history_find(state, e.h1, e.h2, e.tenant)
    if i ~= 0 then
      history_drop(state, i)
      return name[i].side + 1, name[i].note
    end
  end

  function ghost.drop(_, side)
    local of = side_of(side or 1)
    local count = state.list[of].count
    if count == 0 then
      return false
    end
    history_trim(state, of, count - 1)
    return true
  end

  function ghost.count(_, side)
    return state.list[side_of(side or 1)].count
  end

  function ghost.trim(_, most, side)
    local of = side_of(side or 1)
    if type(most) ~= 'number' or most ~= most then
      blame('ghost: most is %s, expected a number', show(most))
    end
    if state.list[of].count > most then
      history_trim(state, of, floor(max(most, 0)))
    end
  end

  return own(ghost, { names, heads, memory })
end

---@class neap.Sampler a set of slots to draw from
---@field add fun(self, slot: integer) nothing happens if it is there
---@field remove fun(self, slot: integer): boolean whether it was there
---@field has fun(self, slot: integer): boolean
---@field count fun(self): integer
---@field draw fun(self, rng: neap.Rng, tenant?: integer): integer? one of them, all alike; it stays. With a tenant the
---first of its own from a random place on

--- An empty set for slots 0 .. slots-1: 8 bytes each; every call in constant time, but for the walk of `draw`.
---@param slots integer
---@return neap.Sampler
function parts.sampler(slots)
  local n = whole('sampler', 'slots', slots, 1, SLOTS_MAX)
  local memory = new('int32_t[?]', 2 * n + 1) -- members, then the place of each slot + 1, then the count
  local member = cast('int32_t *', memory)
  local place = member + n
  local sampler = {}

  local function check_slot(slot)
    if not (type(slot) == 'number' and slot >= 0 and slot < n) then
      no_slot('sampler', slot, n)
    end
  end

  function sampler.add(_, slot)
    check_slot(slot)
    if place[slot] == 0 then
      local count = place[n]
      member[count] = slot
      place[slot] = count + 1
      place[n] = count + 1
    end
  end

  function sampler.remove(_, slot)
    check_slot(slot)
    local at = place[slot]
    if at == 0 then
      return false
    end
    local count = place[n] - 1
    local last = member[count]
    member[at - 1] = last
    place[last] = at
    place[slot] = 0
    place[n] = count
    return true
  end

  function sampler.has(_, slot)
    check_slot(slot)
    return place[slot] ~= 0
  end

  function sampler.count()
    return place[n]
  end

  function sampler.draw(_, rng, tenant)
    local count = place[n]
    if count == 0 then
      return nil
    end
    local at = rng:below(count)
    if not tenant then
      return member[at]
    end
    for i = at, at + count - 1 do
      local slot = member[i < count and i or i - count]
      if lists.tenant_of(slot) == tenant then
        return slot
      end
    end
  end

  return own(sampler, memory)
end

---@class neap.Heap slots by rank, the smallest first; of equal ranks the one ranked first
---@field put fun(self, slot: integer, rank: number) puts it in, or ranks it anew
---@field remove fun(self, slot: integer): boolean whether it was there
---@field has fun(self, slot: integer): boolean
---@field rank fun(self, slot: integer): number? of a slot that is there
---@field first fun(self, tenant?: integer): integer? a tenant's is found by a search through all
---@field count fun(self): integer

--- An empty heap for slots 0 .. slots-1: 20 bytes each; put and remove in logarithmic time (policies/heap.h).
---@param slots integer
---@return neap.Heap
function parts.heap(slots)
  local n = whole('heap', 'slots', slots, 1, SLOTS_MAX)
  local entries, places, memory = new('neap_heap_entry[?]', n), new('uint32_t[?]', n), new 'neap_heap[1]'
  local entry, place = cast('neap_heap_entry *', entries), cast('uint32_t *', places)
  local state = cast('neap_heap *', memory)
  local heap_put, heap_take, heap_before = native.heap_put, native.heap_take, native.heap_before
  state.entries, state.at = entry, place
  local heap = {}

  local function check_slot(slot)
    if not (type(slot) == 'number' and slot >= 0 and slot < n) then
      no_slot('heap', slot, n)
    end
  end

  function heap.put(_, slot, rank)
    check_slot(slot)
    if type(rank) ~= 'number' or rank ~= rank then
      blame('heap: the rank of slot %d is %s, expected a number', slot, show(rank))
    end
    heap_put(state, slot, rank)
  end

  function heap.remove(_, slot)
    check_slot(slot)
    if place[slot] == 0 then
      return false
    end
    heap_take(state, slot)
    return true
  end

  function heap.has(_, slot)
    check_slot(slot)
    return place[slot] ~= 0
  end

  function heap.rank(_, slot)
    check_slot(slot)
    if place[slot] ~= 0 then
      return entry[place[slot] - 1].rank
    end
  end

  function heap.first(_, tenant)
    local count, best = state.count, nil
    if not tenant then
      return count > 0 and entry[0].item or nil
    end
    for i = 0, count - 1 do
      if lists.tenant_of(entry[i].item) == tenant and (not best or heap_before(entry + i, entry + best)) then
        best = i
      end
    end
    return best and entry[best].item
  end

  function heap.count()
    return state.count
  end

  return own(heap, { entries, places, memory })
end

---@class neap.Sketch how often names were seen lately, roughly: at most 65535 times
---@field add fun(self, e: neap.Event|neap.Chunk)
---@field estimate fun(self, e: neap.Event|neap.Chunk): integer never less than it was added since the last halving
---@field halve fun(self) all counts, so that what is old counts less

--- A counting Bloom filter (policies/sketch.h): 29 bytes for each name that it is made for.
---@param names integer
---@return neap.Sketch
function parts.sketch(names)
  local count = native.sketch_counters(whole('sketch', 'names', names, 1, 2 ^ 27))
  local memory, box = new('uint16_t[?]', count), new 'neap_sketch[1]'
  local state = cast('neap_sketch *', box)
  local sketch_add, sketch_estimate = native.sketch_add, native.sketch_estimate
  local sketch_halve = native.sketch_halve
  state.counters, state.count = memory, count
  local sketch = {}

  function sketch.add(_, e)
    sketch_add(state, e.h1, e.h2)
  end

  function sketch.estimate(_, e)
    return sketch_estimate(state, e.h1, e.h2)
  end

  function sketch.halve()
    sketch_halve(state)
  end

  return own(sketch, { memory, box })
end

--- So many of `count`, as the built-in policies reckon shares of the capacity.
---@param share number
---@param count integer
---@return integer
function parts.share(share, count)
  return floor(min(share * count, 2 ^ 31 - 1))
end

---@class neap.Rng
---@field below fun(self, count: integer): integer 0 .. count-1

--- Random numbers, the same ones for the same seed: SplitMix64 (policies/splitmix.h).
---@param seed number
---@return neap.Rng
function parts.rng(seed)
  if type(seed) ~= 'number' or seed ~= seed then
    blame('rng: seed is %s, expected a number', show(seed))
  end
  local memory = new('uint64_t[1]', seed)
  local state = cast('uint64_t *', memory)
  local random_below = native.random_below
  local rng = {}

  function rng.below(_, count)
    if not (type(count) == 'number' and count >= 1 and count < 2 ^ 32) then
      blame('rng: count is %s, expected 1 to 4294967295', show(count))
    end
    return random_below(state, count)
  end

  return own(rng, memory)
end

---@class neap.Ewma a decaying average
---@field update fun(self, value: number): number the average with that value in it
---@field value fun(self): number 0 before the first update

--- A decaying average: each value counts `weight`, everything before it 1 - weight.
---@param weight number above 0, at most 1
---@return neap.Ewma
function parts.ewma(weight)
  if type(weight) ~= 'number' or not (weight > 0 and weight <= 1) then
    blame('ewma: weight is %s, expected a number above 0, at most 1', show(weight))
  end
  local memory = new('double[2]') -- the average; whether there is one
  local at = cast('double *', memory)
  local ewma = {}

  function ewma.update(_, value)
    if type(value) ~= 'number' or value ~= value then
      blame('ewma: value is %s, expected a number', show(value))
    end
    at[0] = at[1] == 0 and value or at[0] + weight * (value - at[0])
    at[1] = 1
    return at[0]
  end

  function ewma.value()
    return at[0]
  end

  return own(ewma, memory)
end

return parts
