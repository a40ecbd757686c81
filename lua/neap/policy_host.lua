-- SPDX-License-Identifier: MIT
--
-- neap.policy_host - the engine's side of a policy in Lua: runs the file, checks what it returns, and makes the few
-- functions by which C enters the VM. Called by script/lua_policy.c only. What C and Lua tell each other goes through
-- one box of C memory that lives as long as the VM, so that a reference that a policy keeps never dangles.

local check = require 'neap.policy_check'
local ffi = require 'ffi'
local make_sandbox = require 'neap.console.sandbox'
local lists = require 'neap.policy_lists'
local policy = require 'neap.policy'

local blame, meant, show = check.blame, check.meant, check.show
local cast, copy = ffi.cast, ffi.copy
local debug, load, type = debug, load, type

-- As in neap/policy.h and script/lua_policy.c; slots are signed here, so that NEAP_POLICY_NO_SLOT is -1.
ffi.cdef [[
typedef struct {
  int32_t slot;
  uint8_t type, detail;
  uint16_t pos;
  uint32_t h1, h2, request, tenant, kib, time_ms;
} neap_event;
typedef struct {
  uint32_t h1, h2, tenant, kib, last_ms, order;
  uint16_t hits, pos, children;
  uint8_t tiers, state;
} neap_chunk;
typedef struct {
  uint32_t size, slots, capacity, reserved;
  uint64_t seed;
  const neap_chunk *chunk;
  const uint32_t *next;
  const char *params;
  double base_us, slope_us;
} neap_policy_context;
typedef struct {
  const char *name;
  double store_us_per_mib, load_us_per_mib, load_first_us;
  uint64_t used_bytes, capacity_bytes;
  uint32_t in_flight, healthy;
} neap_tier_view;
typedef struct { int32_t slot; uint32_t h1, h2, kib, pos, hits, tiers, recompute_us; } neap_plan_chunk;
typedef struct {
  uint32_t size, tenant, request, chunks, tiers;
  const neap_plan_chunk *chunk;
  const neap_tier_view *tier;
  uint32_t *cut;
} neap_store_plan;
typedef struct {
  uint32_t size, tenant, request, chunks, tiers;
  const neap_plan_chunk *chunk;
  const neap_tier_view *tier;
  uint8_t *source;
  uint32_t load, keep;
} neap_load_plan;
typedef struct { uint32_t h1, h2; float score; uint32_t within_ms; } neap_hint;
enum { NEAP_BOX = 256 };
typedef struct {
  uint32_t size, chunk_bytes, plan_bytes, tier_bytes, capacity;
  const neap_policy_context *context;
  neap_store_plan *store_plan;
  neap_load_plan *load_plan;
  neap_event events[NEAP_BOX];
  int32_t slots[NEAP_BOX];
  double scores[NEAP_BOX];
  neap_hint hints[NEAP_BOX];
} neap_policy_box;
]]

local BOX = ffi.C.NEAP_BOX
local host = {}

-- Where a function begins, for errors that have no line of their own.
local function place_of(f)
  local at = debug.getinfo(f, 'S')
  return ('%s:%d'):format(at.short_src, at.linedefined)
end

-- Raises in the name of a hook: it has returned, so its line is no longer known.
local function wrong_answer(name, hook, text, ...)
  error(('%s: %s %s'):format(place_of(hook), name, text:format(...)), 0)
end

-- --- what a policy sees ---------------------------------------------------------------------------------------------

-- Elements 0 .. count()-1 of C memory, by reference; with `write`, elements may be assigned.
local function view(what, at, count, write)
  local function check_index(index)
    if not (type(index) == 'number' and index >= 0 and index < count()) then
      blame('%s: index is %s, expected 0 to %d', what, show(index), count() - 1)
    end
  end
  return setmetatable({}, {
    __metatable = false,
    __index = function(_, index)
      check_index(index)
      return at[index]
    end,
    __newindex = function(_, index, value)
      check_index(index)
      if not write then
        blame('%s: read-only', what)
      end
      write(index, value)
    end,
  })
end

-- A table whose fields are what `fields` says, read-only. `capacity`, if given, is one more, that is asked each time.
local function record(what, fields, capacity)
  return setmetatable({}, {
    __metatable = false,
    __index = function(_, name)
      if name == 'capacity' and capacity then
        return capacity()
      end
      local value = fields[name]
      if value ~= nil then
        return value
      end
      blame("%s has no '%s'%s", what, tostring(name), meant(name, fields))
    end,
    __newindex = function(_, name)
      blame("%s.%s: read-only", what, tostring(name))
    end,
  })
end

local function make_context(box, params)
  local context = box.context
  local slots, rows, cost_base, cost_slope = context.slots, context.chunk, context.base_us, context.slope_us
  local function all()
    return slots
  end
  lists.set_tenants(function(slot)
    return slot < slots and rows[slot].tenant -- a part may be made for more slots than there are
  end)
  local function capacity()
    return box.capacity
  end
  local fields = {
    slots = slots,
    seed = tonumber(context.seed),
    params = record('ctx.params', params),
    chunk = view('ctx.chunk', rows, all),
    cost_us = function(pos)
      return cost_base + cost_slope * pos
    end,
    next = context.next ~= nil and view('ctx.next', context.next, all) or false,
  }
  return record('ctx', fields, capacity)
end

-- --- running the file -----------------------------------------------------------------------------------------------

-- The globals of a policy that is not trusted: those of a guarded session at the prompt, and this module.
local function sandbox()
  local env = make_sandbox()
  local require_other = env.require
  function env.require(name)
    if name == 'neap.policy' then
      return policy
    end
    return require_other(name) -- a tail call: its errors have the policy's line
  end
  return env
end

-- The line on which a field that a message names is written, or else the declaration begins.
local function line_of(text, message)
  local word = message:match "'([%w_]+)"
  local at = word and text:find('%f[%w_]' .. word .. '%f[^%w_]') or text:find 'return%s+policy' or 1
  return select(2, text:sub(1, at):gsub('\n', '')) + 1
end

local function run(path, text, sandboxed)
  check.set_locate(function(message)
    return ('%s:%d: '):format(path, line_of(text, message))
  end)
  local chunk, failure = load(text, '@' .. path, 't', sandboxed and sandbox() or nil)
  if not chunk then
    error(failure, 0)
  end
  local declaration = chunk(path)
  check.set_locate(function()
    return ''
  end)
  if not check.declared[declaration or 0] then
    error(('%s: the file returned %s, expected what policy { name = , new = } returns')
      :format(path, declaration == nil and 'nothing' or 'a ' .. type(declaration)), 0)
  end
  return declaration
end

local answers = { 'victim', 'victims', 'score' }
local hook_names = { 'on_events', 'victim', 'victims', 'score', 'store_plan', 'load_plan', 'on_hint', 'predict', 'save',
  'load' }
local known = {}
for _, name in ipairs(hook_names) do
  known[name] = true
end
for name in pairs(policy.event) do
  known[name] = true
end

local function make_hooks(declaration, context)
  local at = place_of(declaration.new)
  local function wrong(text, ...)
    error(('%s: new %s'):format(at, text:format(...)), 0)
  end
  local hooks = declaration.new(context)
  if type(hooks) ~= 'table' then
    wrong('returned %s, expected a table of hooks', hooks == nil and 'nothing' or 'a ' .. type(hooks))
  end
  for name, hook in pairs(hooks) do
    if not known[name] then
      wrong("returned '%s', which is no hook%s", tostring(name), meant(name, known))
    elseif type(hook) ~= 'function' then
      wrong("returned a %s as '%s', expected a function", type(hook), name)
    elseif hooks.on_events and policy.event[name] then
      wrong("returned both 'on_events' and '%s', expected one or the other", name)
    end
  end
  local count = 0
  for _, name in ipairs(answers) do
    count = count + (hooks[name] and 1 or 0)
  end
  if count ~= 1 then
    wrong("returned %s 'victim', 'victims' and 'score', expected one of them", count == 0 and 'none of' or 'more of')
  elseif hooks.on_events and not declaration.wants then
    wrong("returned 'on_events', but the declaration has no 'wants', expected such as wants = 'INSERT HIT REMOVE KEEP'")
  elseif declaration.wants and not hooks.on_events then
    wrong("returned no 'on_events', but the declaration has 'wants', which is for it; handlers need none")
  end
  return hooks
end

-- --- how C enters ---------------------------------------------------------------------------------------------------

-- Tells the policy what has happened: the first n events of the box.
local function make_deliver(box, hooks)
  local events = cast('const neap_event *', box.events)
  if hooks.on_events then
    local n = 0
    local seen, on_events = view('ev', events, function() return n end), hooks.on_events
    return function(count)
      n = count
      on_events(seen, count)
    end
  end
  local handlers = {}
  for name, number in pairs(policy.event) do
    handlers[number] = hooks[name] or false
  end
  return function(count)
    for i = 0, count - 1 do
      local e = events[i]
      local handle = handlers[e.type]
      if handle then
        handle(e.slot, e)
      end
    end
  end
end

local function make_victims(box, hooks, slots)
  local out, begin_answer = cast('int32_t *', box.slots), lists.begin_answer
  local function wrong_slot(name, slot)
    wrong_answer(name, hooks[name], 'returned %s, expected a slot, 0 to %d, or nil', show(slot), slots - 1)
  end
  if hooks.victim then
    local victim = hooks.victim
    local function ask(i, tenant)
      local slot = victim(tenant)
      if not slot then
        return 0
      elseif not (type(slot) == 'number' and slot >= 0 and slot < slots) then
        wrong_slot('victim', slot)
      end
      out[i] = slot
      return 1
    end
    return function(max, tenant)
      begin_answer()
      if max == 1 then -- often, and no loop that ends at once: the compiler takes those for failures
        return ask(0, tenant)
      end
      local got = 0
      while got < max and ask(got, tenant) == 1 do
        got = got + 1
      end
      return got
    end
  end
  local victims, most = hooks.victims, 0
  local places = view('out', out, function() return most end, function(index, slot)
    if not (type(slot) == 'number' and slot >= 0 and slot < slots) then
      blame('out[%d] = %s, expected a slot, 0 to %d', index, show(slot), slots - 1)
    end
    out[index] = slot
  end)
  return function(max, tenant)
    begin_answer()
    most = max
    local count = victims(places, max, tenant)
    if not (type(count) == 'number' and count >= 0 and count <= max and count % 1 == 0) then
      wrong_answer('victims', victims, 'returned %s, expected a whole number from 0 to %d', show(count), max)
    end
    return count
  end
end

local function make_score(box, hooks)
  local slots, scores, score = cast('int32_t *', box.slots), cast('double *', box.scores), hooks.score
  return function(count)
    for i = 0, count - 1 do
      local worth = score(slots[i])
      if type(worth) ~= 'number' or worth ~= worth then
        wrong_answer('score', score, 'returned %s for slot %d, expected a number', show(worth), slots[i])
      end
      scores[i] = worth
    end
  end
end

-- Copies of the chunks and tiers of a plan: what C passes ends with the call.
local function make_plan_parts()
  local chunks, tiers, room = nil, {}, 0
  local kept = {} -- what was outgrown; a policy may still hold a row of it
  local function take(given)
    local count = given.chunks
    if room < given.chunks then
      room = math.max(64, given.chunks, room * 2)
      chunks = ffi.new('neap_plan_chunk[?]', room)
      kept[#kept + 1] = chunks
    end
    copy(chunks, given.chunk, given.chunks * ffi.sizeof 'neap_plan_chunk')
    for t = 0, given.tiers - 1 do
      local seen = given.tier[t]
      tiers[t] = {
        name = ffi.string(seen.name), healthy = seen.healthy ~= 0, in_flight = seen.in_flight,
        store_us_per_mib = seen.store_us_per_mib, load_us_per_mib = seen.load_us_per_mib,
        load_first_us = seen.load_first_us, used_bytes = tonumber(seen.used_bytes),
        capacity_bytes = tonumber(seen.capacity_bytes),
      }
    end
    for t = given.tiers, #tiers do
      tiers[t] = nil
    end
    local rows = cast('const neap_plan_chunk *', chunks)
    return view('plan.chunk', rows, function() return count end), tiers
  end
  return take
end

local function whole_number(what, value, most)
  if not (type(value) == 'number' and value >= 0 and value <= most and value % 1 == 0) then
    blame('%s = %s, expected a whole number from 0 to %d', what, show(value), most)
  end
  return value
end

-- One table that the policy is given for each plan; `writable` are fields that it may set, up to the number of chunks.
local function make_plan(name, hook, writable, array)
  local take = make_plan_parts()
  return function(given)
    local open = true
    local function count()
      if not open then
        blame('plan.%s: the plan is over', array.name)
      end
      return array.count(given)
    end
    local chunk, tier = take(given)
    local fields = {
      tenant = given.tenant, request = given.request, chunks = given.chunks, tiers = given.tiers, chunk = chunk,
      tier = tier,
      [array.name] = view('plan.' .. array.name, given[array.name], count, function(index, value)
        given[array.name][index] = whole_number(('plan.%s[%d]'):format(array.name, index), value, array.most(given))
      end),
    }
    for _, field in ipairs(writable) do
      fields[field] = given[field]
    end
    hook(setmetatable({}, {
      __metatable = false,
      __index = fields,
      __newindex = function(_, field, value)
        for _, known_field in ipairs(writable) do
          if field == known_field and open then
            fields[field] = whole_number('plan.' .. field, value, given.chunks)
            given[field] = fields[field]
            return
          end
        end
        blame("plan.%s cannot be set; %s[...] can%s", tostring(field), array.name,
          writable[1] and ', and ' .. table.concat(writable, ', ') or '')
      end,
    }))
    open = false
    return name
  end
end

local function make_others(box, hooks)
  local others, most = {}, 0
  local function count()
    return most
  end
  local hints = view('hints', cast('const neap_hint *', box.hints), count)
  local predictions = view('out', cast('neap_hint *', box.hints), count)
  if hooks.store_plan then
    local plan = make_plan('store_plan', hooks.store_plan, {},
      { name = 'cut', count = function(p) return p.tiers end, most = function(p) return p.chunks end })
    others.store_plan = function()
      plan(box.store_plan)
    end
  end
  if hooks.load_plan then
    local plan = make_plan('load_plan', hooks.load_plan, { 'load', 'keep' },
      { name = 'source', count = function(p) return p.chunks end, most = function() return 255 end })
    others.load_plan = function()
      plan(box.load_plan)
    end
  end
  if hooks.on_hint then
    others.on_hint = function(n)
      most = n
      hooks.on_hint(hints, n)
    end
  end
  if hooks.predict then
    others.predict = function(max)
      most = max
      local n = hooks.predict(predictions, max)
      if not (type(n) == 'number' and n >= 0 and n <= max and n % 1 == 0) then
        wrong_answer('predict', hooks.predict, 'returned %s, expected a whole number from 0 to %d', show(n), max)
      end
      return n
    end
  end
  if hooks.save then
    others.save = function()
      local state = hooks.save()
      if type(state) ~= 'string' then
        wrong_answer('save', hooks.save, 'returned a %s, expected a string', type(state))
      end
      return state
    end
  end
  others.load = hooks.load
  return others
end

-- Functions of (n, ...), where n is how many events come first.
local function make_entries(box, hooks, slots)
  local deliver = make_deliver(box, hooks)
  local inner = make_others(box, hooks)
  if hooks.score then
    inner.score = make_score(box, hooks)
  else
    inner.victims = make_victims(box, hooks, slots)
  end
  local entries = { on_events = deliver }
  for name, hook in pairs(inner) do
    entries[name] = function(n, a, b)
      if n > 0 then
        deliver(n)
      end
      return hook(a, b)
    end
  end
  return entries
end

-- --- for C ----------------------------------------------------------------------------------------------------------

local function list_params(declared)
  local list = {}
  for name, value in pairs(declared or {}) do
    local param = type(value) == 'table' and value or { value }
    list[#list + 1] = { name = name, default = param[1], min = param.min or -math.huge, max = param.max or math.huge }
  end
  table.sort(list, function(a, b)
    return a.name < b.name
  end)
  return list
end

local function wants_of(declaration, hooks)
  local mask = check.declared[declaration]
  for name, number in pairs(policy.event) do
    if hooks[name] then
      mask = bit.bor(mask, 2 ^ number)
    end
  end
  return mask
end

local function places_of(declaration, hooks)
  local places, new_at = {}, place_of(declaration.new)
  for _, name in ipairs(hook_names) do
    places[name] = hooks[name] and place_of(hooks[name]) or nil
  end
  places.victims = places.victims or places.victim
  places.on_events = places.on_events or new_at
  return places
end

--- Runs a policy's file and makes one policy at work.
---@param address userdata the box
---@param path string
---@param text string what is in the file
---@param sandboxed boolean
---@param given? table<string, number> parameters; nil: the defaults
---@return table what script/lua_policy.c reads
function host.open(address, path, text, sandboxed, given)
  local box = cast('neap_policy_box *', address)
  if box.size ~= ffi.sizeof 'neap_policy_box' or box.chunk_bytes ~= ffi.sizeof 'neap_chunk'
    or box.plan_bytes ~= ffi.sizeof 'neap_load_plan' or box.tier_bytes ~= ffi.sizeof 'neap_tier_view'
    or box.context.size ~= ffi.sizeof 'neap_policy_context' or BOX ~= 256 then
    error('neap/policy_host.lua and the engine are of different versions', 0)
  end
  local declaration = run(path, text, sandboxed)
  local params, values = list_params(declaration.params), {}
  for _, param in ipairs(params) do
    values[param.name] = given and given[param.name] or param.default
  end
  local hooks = make_hooks(declaration, make_context(box, values))
  return {
    name = declaration.name,
    wants = wants_of(declaration, hooks),
    leaf = declaration.constraint == 'leaf',
    guarded = sandboxed or declaration.guarded or false,
    memory = declaration.memory or 0,
    slice = declaration.slice or 0,
    params = params,
    entries = make_entries(box, hooks, box.context.slots),
    places = places_of(declaration, hooks),
  }
end

return host
