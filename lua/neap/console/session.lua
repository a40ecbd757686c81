-- SPDX-License-Identifier: MIT
--
-- neap.console.session - the Lua side of a session (engine/src/script/console.c, which calls the functions returned
-- here in a coroutine, one at a time). Errors are left to C: it knows the traceback, and whether it was an interrupt.

local complete = require 'neap.console.complete'
local help = require 'neap.console.help'
local new_engine = require 'neap.console.engine'
local new_policy = require 'neap.console.policy'
local pretty = require 'neap.console.pretty'
local sandbox = require 'neap.console.sandbox'

---@class neap.console.Options from C
---@field mode 'open'|'trusted'|'guarded'
---@field write fun(text: string)
---@field json fun(value: any): string
---@field colour boolean
---@field columns integer
---@field args string[]
---@field engine? table

local function pass(...)
  return ...
end

-- Of expressions first: `x` means `return x`. Either way of reading may say that the text ends too early. What runs is
-- `return pass(x)`: a call in x is then no tail call, and an error in it is told with its line.
local function compile(text, name, env)
  local main, first = load('return ' .. text, name, 't', env)
  if main then
    return load('return (...)(' .. text .. '\n)', name, 't', env) or main
  end
  local failure
  main, failure = load(text, name, 't', env)
  if main then
    return main
  end
  local early = first:find("'<eof>'", 1, true) and first or failure:find("'<eof>'", 1, true) and failure
  return nil, early or failure, early and true
end

---@param options neap.console.Options
---@return table functions
return function(options)
  local env = options.mode == 'guarded' and sandbox() or _G
  local shape = { columns = options.columns, colour = options.colour }
  env.neap = env.neap or require 'neap'
  if options.engine and options.engine.lab then
    env.policy = new_policy(options.engine.lab, options.write)
  end
  if options.engine then
    env.engine = new_engine(options.engine, options.json, options.mode == 'guarded')
  end

  function env.print(...)
    local words = {}
    for i = 1, select('#', ...) do
      words[i] = tostring((select(i, ...)))
    end
    options.write(table.concat(words, '\t') .. '\n')
  end

  --- Prints a value as the prompt does; limits: columns, depth, items, values.
  function env.dump(value, limits)
    local merged = { columns = shape.columns, colour = shape.colour }
    for name, limit in pairs(limits or {}) do
      merged[name] = limit
    end
    options.write(pretty(value, merged) .. '\n')
  end

  function env.help(topic)
    options.write(help(topic, options.mode) .. '\n')
  end

  local function finish(json, ...)
    local lines = {}
    for i = 1, select('#', ...) do
      local value = select(i, ...)
      lines[i] = json and options.json(value) or pretty(value, shape)
    end
    if #lines > 0 then
      env._ = (...)
    end
    return 'ok', table.concat(lines, '\n')
  end

  local functions = {}

  function functions.eval(text, name, json)
    if not text:find '%S' then
      return 'ok', ''
    end
    local main, failure, incomplete = compile(text, name, env)
    if not main then
      return incomplete and 'incomplete' or 'failed', failure
    end
    return finish(json, main(pass))
  end

  function functions.script(text, name, json)
    local main, failure = load((text:gsub('^#[^\n]*', '')), name, 't', env)
    if not main then
      return 'failed', failure
    end
    env.arg = options.args
    return finish(json, main(unpack(options.args)))
  end

  function functions.complete(text)
    local prefix, candidates = complete(env, text)
    return 'ok', #prefix .. '\n' .. table.concat(candidates, '\n')
  end

  return functions
end
