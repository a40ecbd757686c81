-- SPDX-License-Identifier: MIT
--
-- neap.finalizers - run by the engine when a VM starts. An error in a finalizer is raised wherever the collector
-- happens to run; out of compiled code, LuaJIT of 2022 crashes on it. So no finalizer that a script can make may raise:
-- those of the FFI are wrapped, and newproxy, the only other way to make one, is not there.

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
