-- SPDX-License-Identifier: MIT
--
-- neap.policy - declares a cache policy: what stays, what goes down, what comes up again.
--
--   local policy = require 'neap.policy'
--
--   return policy {
--     name = 'lru',
--     new = function(ctx)
--       local order = policy.list(ctx.slots)
--       return {
--         insert = function(slot) order:push(slot) end,
--         hit = function(slot) order:touch(slot) end,
--         keep = function(slot) order:keep(slot) end,
--         remove = function(slot) order:remove(slot) end,
--         victim = function(tenant) return order:pop(tenant) end,
--       }
--     end,
--   }
--
-- The same file runs in a replay, at the prompt, as a shadow and in the live engine. The engine numbers the places for
-- objects 0 .. slots-1 and tells the policy what happens to them, in batches; the policy keeps its own order and names
-- victims when asked. Every answer is checked. A victim stays the policy's until `remove` or `keep` is called for it;
-- what happens in between may come late: a handler is told what happened by value, and should look at ctx.chunk in
-- victim, victims, score and the plans only, for there all events have been told.
--
-- Nothing in a policy waits. Hooks are compiled, and should not make tables, strings or closures: what parts
-- (policy.list and so on) are made of is taken when `new` runs. A hook that raises puts the policy out; the built-in
-- LRU goes on.

local check = require 'neap.policy_check'
local parts = require 'neap.policy_parts'

local blame, meant, show = check.blame, check.meant, check.show

---@class neap.PolicyDeclaration
---@field name string
---@field new fun(ctx: neap.PolicyContext): neap.PolicyHooks makes one policy at work; may be called for many
---@field params? table<string, number|neap.PolicyParam> what may be written behind the policy's name, with defaults
---@field constraint? 'leaf' a victim with resident children is not taken (KEEP), and score samples leaves
---@field wants? string with on_events, and only there: the events it is told, as in 'INSERT HIT REMOVE KEEP'
---@field memory? integer bytes that Lua values may take; 1 GiB without it
---@field guarded? boolean not compiled, and stopped when a hook runs for a slice
---@field slice? number seconds of processor time, or ten times as long by the clock; 1 without it

---@class neap.PolicyParam
---@field [1] number the default
---@field min? number
---@field max? number

---@class neap.PolicyContext read-only
---@field slots integer places for objects; slots are 0 .. slots-1
---@field capacity integer how many objects fit, as far as known; it changes
---@field seed integer
---@field params table<string, number>
---@field chunk table<integer, neap.Chunk> by slot: what the engine knows of what is there
---@field cost_us fun(pos: integer): number what recomputing a chunk at that position costs, microseconds
---@field next table<integer, integer>? replay only: by slot, when it is used next, as a number of references since the
---trace began; 4294967295 never

---@class neap.Chunk a row of ctx.chunk; all zero where nothing is resident
---@field h1 integer first four bytes of the chunk's hash
---@field h2 integer the next four
---@field tenant integer
---@field kib integer
---@field last_ms integer when it was last used, or inserted
---@field order integer grows with every use and insertion
---@field hits integer since it was inserted, at most 65535
---@field pos integer position in its prompt
---@field children integer resident chunks that continue it, at most 65535; kept where a policy asks for leaves
---@field tiers integer bit t: second-level tier t has it
---@field state integer 0: empty

---@class neap.Event
---@field slot integer -1 where there is none
---@field type integer see policy.event
---@field detail integer of remove: policy.reason; of stored and loaded: the tier
---@field pos integer position of the chunk in its request; of request: how many chunks it has
---@field h1 integer of request: its session, 0 if none
---@field h2 integer
---@field request integer hash of the request's id, 0 if none
---@field tenant integer
---@field kib integer
---@field time_ms integer since the engine was opened, or the trace began

---@class neap.PolicyHooks the part of a policy that knows its state. Handlers may be left out; one of victim, victims
---and score must be there.
---@field insert? fun(slot: integer, e: neap.Event) slot became resident
---@field hit? fun(slot: integer, e: neap.Event) slot was used by a request
---@field remove? fun(slot: integer, e: neap.Event) slot is gone
---@field keep? fun(slot: integer, e: neap.Event) a victim could not go: it is still yours
---@field pin? fun(slot: integer, e: neap.Event) slot cannot be evicted for now
---@field unpin? fun(slot: integer, e: neap.Event)
---@field leaf? fun(slot: integer, e: neap.Event) nothing resident continues slot any more; not told with its insert
---@field unleaf? fun(slot: integer, e: neap.Event)
---@field miss? fun(slot: integer, e: neap.Event) slot is -1
---@field stored? fun(slot: integer, e: neap.Event) tier e.detail has it
---@field loaded? fun(slot: integer, e: neap.Event) it came from tier e.detail; after its insert
---@field request? fun(slot: integer, e: neap.Event) a request begins; slot is -1
---@field tick? fun(slot: integer, e: neap.Event) a second has passed; slot is -1
---@field on_events? fun(ev: table<integer, neap.Event>, n: integer) instead of handlers: ev[0] .. ev[n-1]
---@field victim? fun(tenant: integer?): integer? the next victim, of that tenant if one is named; nil: none left
---@field victims? fun(out: table<integer, integer>, max: integer, tenant: integer?): integer writes out[0] ..
---out[k-1], best first, and returns k
---@field score? fun(slot: integer): number what slot is worth; the engine draws a sample, the lowest goes
---@field store_plan? fun(plan: neap.StorePlan)
---@field load_plan? fun(plan: neap.LoadPlan)
---@field on_hint? fun(hints: table<integer, neap.Hint>, n: integer)
---@field predict? fun(out: table<integer, neap.Hint>, max: integer): integer writes h1 and h2 of chunks that should
---come up from the second level now, and returns how many
---@field save? fun(): string state for another instance of this policy: for what it has learnt to outlive a reload
---@field load? fun(state: string) before the first event

---@class neap.Hint
---@field h1 integer
---@field h2 integer
---@field score number 0 never again, 1 certainly
---@field within_ms integer 0: no idea

---@class neap.PlanChunk
---@field slot integer -1 if it is not resident
---@field h1 integer
---@field h2 integer
---@field kib integer
---@field pos integer
---@field hits integer
---@field tiers integer bit t: tier t has it
---@field recompute_us integer

---@class neap.PlanTier
---@field name string
---@field store_us_per_mib number
---@field load_us_per_mib number
---@field load_first_us number
---@field used_bytes number
---@field capacity_bytes number 0: not bounded
---@field in_flight integer objects
---@field healthy boolean

---@class neap.StorePlan which chunks of a request go to which tier
---@field tenant integer
---@field request integer
---@field chunks integer
---@field tiers integer
---@field chunk table<integer, neap.PlanChunk> 0 .. chunks-1, head of the prompt first
---@field tier table<integer, neap.PlanTier> 0 .. tiers-1
---@field cut table<integer, integer> by tier: the first cut[t] chunks go to tier t. What the engine would do; change it

---@class neap.LoadPlan what is loaded for a request, the rest is recomputed
---@field tenant integer
---@field request integer
---@field chunks integer
---@field tiers integer
---@field chunk table<integer, neap.PlanChunk>
---@field tier table<integer, neap.PlanTier>
---@field source table<integer, integer> by chunk: the tier to load it from; 255 if resident
---@field load integer the first `load` chunks are used
---@field keep integer the first `keep` of them stay in the first level afterwards

---@class neap.policy
---@overload fun(declaration: neap.PolicyDeclaration): neap.PolicyDeclaration
local policy = {
  column = parts.column,
  list = parts.list,
  lists = parts.lists,
  heap = parts.heap,
  ghost = parts.ghost,
  sketch = parts.sketch,
  sampler = parts.sampler,
  ewma = parts.ewma,
  rng = parts.rng,
  share = parts.share,
  --- Types of events, for on_events.
  event = {
    insert = 1, hit = 2, remove = 3, keep = 4, pin = 5, unpin = 6, leaf = 7, unleaf = 8, miss = 9, stored = 10,
    loaded = 11, request = 12, tick = 13,
  },
  --- Why a slot is gone: e.detail of a remove.
  reason = { evict = 1, delete = 2, clear = 3, expire = 4 },
}

local fields = {
  name = 'string', new = 'function', params = 'table', constraint = 'string', wants = 'string', memory = 'number',
  guarded = 'boolean', slice = 'number',
}
local bounds = { memory = { 2 ^ 22, 2 ^ 46, 'bytes' }, slice = { 0.001, 3600, 'seconds' } }

-- The mask of a subscription such as 'INSERT HIT', or nil and what is wrong.
local function parse_wants(text)
  local known, mask = {}, 0
  for name, number in pairs(policy.event) do
    known[name:upper()] = number
  end
  for word in text:gmatch '%S+' do
    if not known[word] then
      return nil, ("'wants' names '%s', which is no event%s"):format(word, meant(word, known))
    end
    mask = bit.bor(mask, 2 ^ known[word])
  end
  return mask
end

local function check_param(name, value)
  local at = ("'params.%s'"):format(tostring(name))
  if type(name) ~= 'string' or not name:match '^[%a_][%w_]*$' then
    return at .. ' is no name, expected letters, digits and _'
  end
  local param = type(value) == 'table' and value or { value }
  for key, number in pairs(param) do
    if key ~= 1 and key ~= 'min' and key ~= 'max' then
      return ("%s has '%s', expected { default, min = , max = }"):format(at, tostring(key))
    elseif type(number) ~= 'number' or number ~= number then
      return ('%s is %s, expected a number, or { default, min = , max = }'):format(at, show(number))
    end
  end
  local low, high = param.min or -math.huge, param.max or math.huge
  if not (param[1] and param[1] >= low and param[1] <= high) then
    return ('%s has the default %s, expected a number from %s to %s'):format(at, show(param[1]), low, high)
  end
end

local function check_field(name, value)
  if not fields[name] then
    return ("'%s' is not a part of a policy%s"):format(tostring(name), meant(name, fields))
  elseif type(value) ~= fields[name] then
    return ("'%s' is a %s, expected a %s"):format(name, type(value), fields[name])
  elseif bounds[name] and not (value >= bounds[name][1] and value <= bounds[name][2]) then
    return ("'%s' is %s, expected %s to %s %s"):format(name, value, unpack(bounds[name]))
  elseif name == 'constraint' and value ~= 'leaf' then
    return ("'constraint' is '%s', expected 'leaf' or nothing"):format(value)
  elseif name == 'name' and not value:match '^[%w_.+-]+$' then
    return ("'name' is '%s', expected letters, digits and _ . + -"):format(value)
  elseif name == 'wants' then
    return select(2, parse_wants(value))
  elseif name == 'params' then
    for param, default in pairs(value) do
      local wrong = check_param(param, default)
      if wrong then
        return wrong
      end
    end
  end
end

-- What has been declared, so that the host can tell it from other tables; by declaration the subscription, or 0.
check.declared = setmetatable({}, { __mode = 'k' })

local Declare = {}

function Declare.__call(_, declaration)
  if type(declaration) ~= 'table' then
    blame('neap.policy: got a %s, expected a table with name and new', type(declaration))
  end
  for name, value in pairs(declaration) do
    local wrong = check_field(name, value)
    if wrong then
      blame('neap.policy: %s', wrong)
    end
  end
  for _, name in ipairs { 'name', 'new' } do
    if declaration[name] == nil then
      blame("neap.policy: '%s' is missing", name)
    end
  end
  check.declared[declaration] = declaration.wants and parse_wants(declaration.wants) or 0
  return declaration
end

return setmetatable(policy, Declare)
