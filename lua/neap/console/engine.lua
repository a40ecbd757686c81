-- SPDX-License-Identifier: MIT
--
-- neap.console.engine - `engine` at the prompt: looks at the engine, drives it by hand, changes its adapters. The work
-- is C (engine/src/console/); here are defaults, words and types. Functions that wait are marked "awaits".

local await = require 'neap.await'

-- What sessions store if they do not say for whom; of guarded sessions the only model and tenant.
local OWN = 'neap-console'
local GRACE_S = 30

---@class neap.console.Engine
---@field private core table
local Engine = {}
Engine.__index = Engine

---@class neap.console.Of whose chunks
---@field model? string default: 'neap-console'
---@field tenant? string default: ''; in a guarded session 'neap-console'
---@field world? integer how many workers share a chunk (default 1)

---@class neap.console.Chunk
---@field hash string 64 hexadecimal digits
---@field model string
---@field tenant string
---@field rank integer
---@field slot integer
---@field bytes integer

---@class neap.console.Hit
---@field chunks integer asked for
---@field hit integer how many of them, from the first on, can be used
---@field tokens integer the same in tokens

---@alias neap.console.Prompt integer[]|string[]|string tokens; or hashes of chunks; or a text whose bytes are tokens

local function prompt_of(prompt)
  if type(prompt) ~= 'string' then
    return prompt
  end
  local tokens = {}
  for i = 1, #prompt do
    tokens[i] = prompt:byte(i)
  end
  return tokens
end

local OF = { model = 'string', tenant = 'string', world = 'number' }

local function check_options(name, options, known)
  for key, value in pairs(options) do
    local expected = known[key]
    if not expected then
      local names = {}
      for one in pairs(known) do
        names[#names + 1] = one
      end
      table.sort(names)
      error(('%s: unknown option %q; expected one of: %s'):format(name, tostring(key), table.concat(names, ', ')), 3)
    elseif type(value) ~= expected then
      error(('%s: %s is a %s, expected a %s'):format(name, key, type(value), expected), 3)
    end
  end
end

---Figures of L1, lookups, stores and eviction.
---@return table
function Engine:status()
  return self.core.status()
end

---What is resident in L1, in no particular order.
---@param options? { model?: string, tenant?: string, limit?: integer } limit: 20 if missing, at most 10,000
---@return neap.console.Chunk[]
function Engine:chunks(options)
  options = options or {}
  check_options('engine:chunks', options, { model = 'string', tenant = 'string', limit = 'number' })
  return self.core.chunks(options.limit or 20, options.model, options.tenant)
end

---@return { model: string, chunk_bytes: integer, chunk_tokens: integer, dtype: string }[]
function Engine:models()
  return self.core.models()
end

---@return { tenant: string, bytes: integer, quota_gb?: number }[]
function Engine:tenants()
  return self.core.tenants()
end

---The second-level adapters, with what they say about themselves.
---@return table[]
function Engine:tiers()
  return self.core.tiers()
end

---What `neap ctl policy` shows: the live policy, its hit ratios, why lookups missed, its trial, shadows, the last
---changes. Figures of requests are those of workers; what is looked up at a prompt does not count.
---@return { policy: string, out: boolean, why: string, window: table, shadows: neap.console.Shadow[] }
function Engine:policy()
  return self.core.policy()
end

---@class neap.console.Shadow
---@field policy string
---@field state 'warming'|'running'|'failed'|'stuck'
---@field why string of failed and stuck
---@field window table over the last lookups: prefix_hit_ratio is predicted, actual_l1_prefix_hit_ratio what L1 had

---The shadows, predicted against actual.
---@return neap.console.Shadow[]
function Engine:shadows()
  return self.core.shadows()
end

---Runs a policy beside the live one, on names only; at most four. Awaits.
---@param policy string as --policy of neap replay names it; in a guarded session a built-in
---@param options? { warm?: boolean } warm: it begins with the recorded traffic (default true)
---@return string? policy
---@return string? code
---@return string? message with file and line
function Engine:shadow(policy, options)
  options = options or {}
  check_options('engine:shadow', options, { warm = 'boolean' })
  return self.core.shadow(policy, options.warm ~= false)
end

---Ends a shadow. Awaits.
---@param policy string as it was given, or its number in engine:shadows() from 0
---@return string? policy
---@return string? code
---@return string? message
function Engine:unshadow(policy)
  return self.core.unshadow(tostring(policy))
end

---Changes the live policy; a file is read anew each time. While the new one is on trial (for so many seconds, default
---600, 0: not at all), the one before comes back if the new one fails, or if L1's prefix hit ratio is below what the
---old one would have had by more than the bound (default 0.05). warm: the comparison begins with the recorded traffic
---(default true). Awaits.
---@param policy string as for engine:shadow
---@param options? { trial?: number, bound?: number, warm?: boolean }
---@return string? policy
---@return string? code
---@return string? message with file and line
function Engine:switch(policy, options)
  options = options or {}
  check_options('engine:switch', options, { trial = 'number', bound = 'number', warm = 'boolean' })
  return self.core.switch(policy, options.trial, options.bound, options.warm)
end

---Where the chunks of a prompt are, and why they are there or not. Awaits.
---@param prompt neap.console.Prompt
---@param of? neap.console.Of
---@return { index: integer, hash: string, objects: table[] }[]
function Engine:explain(prompt, of)
  of = of or {}
  check_options('engine:explain', of, OF)
  return self.core.explain(prompt_of(prompt), of.model or OWN, of.tenant or self.tenant, of.world or 1)
end

---Stores the complete chunks of a prompt, as a worker would, and offers them to the second level.
---@param prompt neap.console.Prompt
---@param contents integer|string|neap.Buffer bytes of zeros for each chunk; or bytes that are cut evenly among them
---@param of? neap.console.Of
---@return { chunks: integer, stored: integer, present: integer } stored, present: objects
function Engine:store(prompt, contents, of)
  of = of or {}
  check_options('engine:store', of, OF)
  local stored, present, chunks = self.core.store(prompt_of(prompt), of.model or OWN, of.tenant or self.tenant,
    of.world or 1, contents)
  return { chunks = chunks, stored = stored, present = present }
end

local function hit_of(core, hit, chunks)
  return { chunks = chunks, hit = hit, tokens = hit * core.status().chunk_tokens }
end

---How much of a prompt is there; what only the second level has is loaded, as for a worker. Awaits.
---@param prompt neap.console.Prompt
---@param of? neap.console.Of
---@return neap.console.Hit
function Engine:lookup(prompt, of)
  of = of or {}
  check_options('engine:lookup', of, OF)
  local hit, chunks = self.core.lookup(prompt_of(prompt), of.model or OWN, of.tenant or self.tenant, of.world or 1)
  return hit_of(self.core, hit, chunks)
end

---The same, and copies of the objects of the first worker. Awaits.
---@param prompt neap.console.Prompt
---@param of? neap.console.Of
---@return neap.Buffer[]
---@return neap.console.Hit
function Engine:load(prompt, of)
  of = of or {}
  check_options('engine:load', of, OF)
  local hit, chunks, buffers = self.core.load(prompt_of(prompt), of.model or OWN, of.tenant or self.tenant,
    of.world or 1)
  return buffers, hit_of(self.core, hit, chunks)
end

---Attaches a second-level adapter. Awaits.
---@param config table|string as --l2-adapter takes it
---@return string? name
---@return string? code
---@return string? message
function Engine:attach(config)
  if type(config) == 'table' then
    config = self.json(config)
  end
  return self.core.attach(config)
end

---Drains an adapter and closes it. Awaits.
---@param name string
---@param grace_s? number patience with what is under way (default 30)
---@return string? name
---@return string? code
---@return string? message
function Engine:detach(name, grace_s)
  return self.core.detach(name, grace_s or GRACE_S)
end

---Replaces an adapter by a new instance of it: the module is read anew. Awaits.
---@param name string
---@param params? table parameters that change
---@param grace_s? number
---@return string? name
---@return string? code
---@return string? message
function Engine:reload(name, params, grace_s)
  return self.core.reload(name, params and self.json(params) or nil, grace_s or GRACE_S)
end

---Writes the text of a module that returns an adapter to a file of this session (adapters have a VM of their own, so
---they are made of text) and attaches it, or reloads the one that this session defined under this name before. Awaits.
---@param name string
---@param text string
---@param params? table
---@return string? name
---@return string? code
---@return string? message
function Engine:define(name, text, params)
  if type(name) ~= 'string' or type(text) ~= 'string' then
    error(('engine:define: got a %s and a %s, expected a name and the text of a module'):format(type(name),
      type(text)), 2)
  end
  local chunk, failure = load(text, '=' .. name, 't')
  if not chunk then
    error('engine:define: ' .. failure, 2)
  end
  local path = self.core.write_module(name, text)
  for _, tier in ipairs(self.core.tiers()) do
    if tier.name == name then
      return self:reload(name, params)
    end
  end
  return self:attach { type = 'plugin', name = name, module_path = path, adapter_params = params }
end

---Removes every chunk from L1 that is not in use.
---@return integer objects
function Engine:clear()
  return self.core.clear()
end

function Engine:__tostring()
  local l1 = self.core.status().l1
  return ('engine (L1 %.4g of %.4g MiB, %d chunks)'):format(l1.used_bytes / 2 ^ 20, l1.pool_bytes / 2 ^ 20, l1.objects)
end

---@param core table what engine/src/console/bind.c pushed
---@param json fun(value: any): string
---@param guarded boolean
---@return neap.console.Engine
return function(core, json, guarded)
  for _, name in ipairs { 'attach', 'detach', 'reload', 'lookup', 'load', 'shadow', 'unshadow', 'switch', 'explain' } do
    core[name] = await(core[name])
  end
  return setmetatable({ core = core, json = json, tenant = guarded and OWN or '' }, Engine)
end
