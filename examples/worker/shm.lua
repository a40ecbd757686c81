-- SPDX-License-Identifier: MIT
--
-- A POSIX shared memory segment made by somebody else, mapped for reading and writing.

local ffi = require 'ffi'

ffi.cdef [[
int shm_open(const char *name, int flags, unsigned mode);
int close(int fd);
long lseek(int fd, long offset, int whence);
void *mmap(void *address, size_t bytes, int protection, int flags, int fd, long offset);
int munmap(void *address, size_t bytes);
char *strerror(int code);
]]

local O_RDWR, SEEK_END, PROT_READ_WRITE, MAP_SHARED = 2, 2, 3, 1

---@class Segment
---@field base ffi.cdata* uint8_t *, the first byte
---@field bytes integer
local Segment = {}
Segment.__index = Segment

---@param name string with or without the leading slash
---@return Segment? segment, string? err
local function open(name)
  local function failed(what)
    return nil, ('%s %s: %s'):format(what, name, ffi.string(ffi.C.strerror(ffi.errno())))
  end
  local fd = ffi.C.shm_open('/' .. name:gsub('^/', ''), O_RDWR, 0)
  if fd < 0 then return failed 'shm_open' end
  local bytes = tonumber(ffi.C.lseek(fd, 0, SEEK_END))
  local base = ffi.C.mmap(nil, bytes, PROT_READ_WRITE, MAP_SHARED, fd, 0)
  if ffi.cast('intptr_t', base) == -1 then
    ffi.C.close(fd)
    return failed 'mmap'
  end
  ffi.C.close(fd)
  return setmetatable({ base = ffi.cast('uint8_t *', base), bytes = bytes }, Segment)
end

---@param offset integer
---@param length integer
---@return ffi.cdata* pointer # uint8_t *, valid until close
function Segment:at(offset, length)
  assert(offset >= 0 and length > 0 and offset + length <= self.bytes, 'slot lies outside the segment')
  return self.base + offset
end

function Segment:close()
  if self.base then ffi.C.munmap(self.base, self.bytes) end
  self.base = nil
end

return { open = open }
