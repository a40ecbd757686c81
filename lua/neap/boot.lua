-- SPDX-License-Identifier: MIT
--
-- neap.boot - run by the engine when a VM starts, before any script: what must not reach the process is replaced.
--
-- Finalizers: an error in one is raised wherever the collector happens to run; out of compiled code, LuaJIT of 2022
-- crashes on it. So no finalizer that a script can make may raise: those of the FFI are wrapped, and newproxy, the only
-- other way to make one, is not there.
-- Handlers of xpcall: one that is called for the guard's own error would run inside the guard's hook, where nothing
-- could stop it; it is passed over. print goes to the log, for stdout is the program's. os.exit is an error.

local core = require 'neap.core'
local load_ffi = package.preload.ffi

local function guarded(finalizer)
  if type(finalizer) ~= 'function' then
    return finalizer -- nil, or a C function
  end
  return function(object)
    local ok, message = pcall(finalizer, object)
    if not ok then
      core.log(3, 'a finalizer failed: ' .. (type(message) == 'string' and message or type(message)))
    end
  end
end

newproxy = nil -- luacheck: ignore

package.preload.ffi = function(...)
  local ffi = load_ffi(...)
  local gc, metatype = ffi.gc, ffi.metatype
  function ffi.gc(object, finalizer)
    return gc(object, guarded(finalizer))
  end
  function ffi.metatype(ctype, metatable)
    if type(metatable) == 'table' then
      metatable.__gc = guarded(metatable.__gc)
    end
    return metatype(ctype, metatable)
  end
  return ffi
end

local handled = xpcall

function xpcall(f, handler, ...) -- luacheck: ignore
  if type(handler) ~= 'function' then
    return handled(f, handler, ...) -- which says what it expects
  end
  return handled(f, function(message)
    if core.stopped() then
      return message
    end
    return handler(message)
  end, ...)
end

function print(...) -- luacheck: ignore
  local words = {}
  for i = 1, select('#', ...) do
    words[i] = tostring((select(i, ...)))
  end
  core.log(1, table.concat(words, '\t'))
end

function os.exit() -- luacheck: ignore
  error('os.exit: a script cannot end the program that runs it', 2)
end
