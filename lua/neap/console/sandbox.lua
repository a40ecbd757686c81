-- SPDX-License-Identifier: MIT
--
-- neap.console.sandbox - the globals of a guarded session: copies of what cannot reach beyond it. Not there: files,
-- processes, sockets, the FFI, bytecode, debug, modules by name, other adapters. It keeps an operator's typing from
-- doing harm; it has not been built to hold an attacker.

local neap = require 'neap'

local BASE = { '_VERSION', 'assert', 'error', 'getmetatable', 'ipairs', 'next', 'pairs', 'pcall', 'rawequal', 'rawget',
  'rawset', 'select', 'setmetatable', 'tonumber', 'tostring', 'type', 'unpack', 'xpcall' }
local LIBRARIES = {
  bit = true, coroutine = true, math = true, string = true, table = true,
  os = { 'clock', 'date', 'difftime', 'time' },
}
local NEAP = { 'all', 'buffer', 'key', 'memory', 'now', 'semaphore', 'sleep' }

local function copy(from, names)
  local to = {}
  for _, name in ipairs(names) do
    to[name] = from[name]
  end
  return to
end

local function names_of(t)
  local names = {}
  for name in pairs(t) do
    names[#names + 1] = name
  end
  return names
end

---@return table env
return function()
  string.dump = nil -- luacheck: ignore (strings find it through their metatable)
  local env = copy(_G, BASE)
  for name, members in pairs(LIBRARIES) do
    env[name] = copy(_G[name], members == true and names_of(_G[name]) or members)
  end
  env.debug = { traceback = debug.traceback }
  -- Through a metatable a script would get the library's own tables, and could give buffers a finalizer.
  local registry = debug.getregistry()
  for _, meta in ipairs { debug.getmetatable '', registry['neap.buffer'], registry['neap.key'],
    registry['neap.semaphore'] } do
    meta.__metatable = false
  end
  setmetatable(env.os, { __metatable = false, __index = function(_, name)
    error(("'os.%s' is not there: a guarded session cannot reach files and processes"):format(tostring(name)), 2)
  end })
  env.neap = copy(neap, NEAP)
  env._G = env

  --- Text only: bytecode is not checked by anybody.
  function env.load(text, name)
    if type(text) ~= 'string' then
      error(('load: got a %s, expected a string'):format(type(text)), 2)
    end
    return load(text, name or '=load', 't', env)
  end
  env.loadstring = env.load

  local modules = { neap = env.neap, bit = env.bit }
  function env.require(name)
    local module = modules[name]
    if not module then
      error(("require '%s': a guarded session has no modules but 'neap' and 'bit'"):format(tostring(name)), 2)
    end
    return module
  end

  local missing = { io = 'files', os = 'files and processes', ffi = 'foreign functions', jit = 'the compiler',
    package = 'modules', dofile = 'files', loadfile = 'files', setfenv = 'environments', getfenv = 'environments',
    collectgarbage = 'the collector', newproxy = 'finalizers' }
  return setmetatable(env, { __metatable = false, __index = function(_, name)
    if missing[name] then
      error(("'%s' is not there: a guarded session cannot reach %s"):format(name, missing[name]), 2)
    end
  end })
end
