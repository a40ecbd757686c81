-- SPDX-License-Identifier: MIT
--
-- neap.console.policy - `policy` at the prompt: what policies would have made of recorded requests, as tables and as
-- plots. A policy is named as --policy of neap replay names it: lru, s3fifo:small=0.2, ./mine.lua. Files are read anew
-- each time, so a policy that is edited is the edited one.

local await = require 'neap.await'

local SIZES = { '1%', '5%', '10%', '25%' }

---@class neap.console.Run
---@field trace string
---@field policy string
---@field size string
---@field size_chunks integer
---@field size_fraction number
---@field requests integer
---@field accesses integer
---@field distinct integer
---@field block_hit_ratio number chunks that were there
---@field prefix_hit_ratio number those with everything before them there
---@field evictions integer
---@field orphan_evictions integer
---@field accesses_per_s integer

---@class neap.console.Study
---@field trace string file
---@field policies? string|string[] default: lru
---@field sizes? string|string[] '5%' of the distinct chunks, '20000' chunks, '64G'; default: 1%, 5%, 10%, 25%
---@field order? 'tail'|'head' which end of a request is touched first (default tail)
---@field requests? integer only the first of them
---@field seed? integer

local KNOWN = { trace = true, policies = true, sizes = true, order = true, requests = true, seed = true }

-- "a,b" or { 'a', 'b' }. A word with '=' belongs to the parameters of the policy before it.
local function list(value, name)
  if type(value) == 'table' then
    return value
  elseif type(value) ~= 'string' then
    error(('policy.replay: %s is a %s, expected a string or an array of strings'):format(name, type(value)), 3)
  end
  local words = {}
  for word in value:gmatch '[^,]+' do
    if word:find '^[%w_]+=' and #words > 0 then
      words[#words] = words[#words] .. ',' .. word
    else
      words[#words + 1] = word
    end
  end
  return words
end

local Runs = {}
Runs.__index = Runs

function Runs:__tostring()
  local width = 6
  for _, run in ipairs(self) do
    width = math.max(width, #run.policy)
  end
  local lines = { ('%-8s %10s  %-' .. width .. 's %8s %8s %12s %12s'):format('size', 'chunks', 'policy', 'prefix',
    'block', 'evictions', 'orphaning') }
  for _, run in ipairs(self) do
    lines[#lines + 1] = ('%-8s %10d  %-' .. width .. 's %7.2f%% %7.2f%% %12d %12d'):format(run.size, run.size_chunks,
      run.policy, 100 * run.prefix_hit_ratio, 100 * run.block_hit_ratio, run.evictions, run.orphan_evictions)
  end
  return table.concat(lines, '\n')
end

---@param core table what engine/cli/prompt_lab.c pushed
---@param write fun(text: string)
return function(core, write)
  local replay = await(core.replay)

  ---@class neap.console.Policy
  local policy = {}

  ---The names of the built-ins.
  ---@return string[]
  function policy.names()
    return core.names()
  end

  ---Finds a policy, loads its file if it is one, and makes an instance of it. Awaits.
  ---@param name string
  ---@return true?
  ---@return string? code
  ---@return string? message with file and line
  function policy.check(name)
    local found, code, message = replay(nil, { name }, nil, false, 0, 1)
    return found and true, code, message
  end

  ---One run for each policy and size. Raises what a trace or a policy did wrong. Awaits; an interrupt leaves it.
  ---@param study neap.console.Study
  ---@return neap.console.Run[]
  function policy.replay(study)
    for key in pairs(study) do
      if not KNOWN[key] then
        error(('policy.replay: unknown option %q; expected trace, policies, sizes, order, requests, seed')
          :format(tostring(key)), 2)
      end
    end
    local order = study.order or 'tail'
    if order ~= 'tail' and order ~= 'head' then
      error(("policy.replay: order is '%s', expected 'tail' or 'head'"):format(tostring(order)), 2)
    elseif type(study.trace) ~= 'string' then
      error(('policy.replay: trace is a %s, expected a file'):format(type(study.trace)), 2)
    end
    local runs, _, message = replay(study.trace, list(study.policies or 'lru', 'policies'),
      list(study.sizes or SIZES, 'sizes'), order == 'head', study.requests or 0, study.seed or 1)
    if not runs then
      error('policy.replay: ' .. message, 2)
    end
    return setmetatable(runs, Runs)
  end

  ---Prints hit ratios over sizes.
  ---@param runs neap.console.Run[]
  ---@param ratio? 'prefix'|'block'
  function policy.plot(runs, ratio)
    local field = (ratio or 'prefix') .. '_hit_ratio'
    local curves, by_name = {}, {}
    for _, run in ipairs(runs) do
      local curve = by_name[run.policy]
      if not curve then
        curve = { name = run.policy }
        by_name[run.policy] = curve
        curves[#curves + 1] = curve
      end
      curve[#curve + 1] = { run.size_fraction, run[field] }
    end
    for _, curve in ipairs(curves) do
      table.sort(curve, function(a, b) return a[1] < b[1] end)
    end
    local title = ('%s hit ratio over share of the distinct chunks'):format(ratio or 'prefix')
    write(core.plot(title, curves))
  end

  ---Replays, prints the table and the plot, and returns the runs without printing them again. Awaits.
  ---@param study neap.console.Study
  function policy.compare(study)
    local runs = policy.replay(study)
    write(tostring(runs) .. '\n\n')
    policy.plot(runs)
  end

  return policy
end
