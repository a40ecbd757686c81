-- SPDX-License-Identifier: MIT
--
-- neap.file - files, read and written between disk and buffers without blocking the loop. All functions await.
-- An operating error is nil, the errno name ('ENOENT'), and a sentence; wrong arguments raise. close, unlink and rmdir
-- also work after the operation was canceled, so that a hook can clean up.

local await = require 'neap.await'
local core = require 'neap.core'

---@alias neap.OpenMode 'r'|'r+'|'w'|'w+'|'wx'

---@class neap.OpenOptions
---@field permissions? integer of a file that is made; 420 (octal 644) if missing
---@field direct? boolean O_DIRECT: past the page cache. 'EINVAL' where the file system cannot, and from reads and
--- writes whose offset, length or memory is not aligned (buffers of neap.buffer are, from 4,096 bytes on)
---@field synced? boolean O_DSYNC: a write ends when it is on the disk

---@class neap.file
---@field open fun(path: string, mode?: neap.OpenMode, options?: neap.OpenOptions|integer): neap.File?, string?,
--- string? an integer: permissions
---@field rename fun(from: string, to: string): true?, string?, string?
---@field link fun(from: string, to: string): true?, string?, string? a second name; 'EEXIST' if there is one
---@field unlink fun(path: string): true?, string?, string?
---@field mkdir fun(path: string, permissions?: integer): true?, string?, string?
---@field rmdir fun(path: string): true?, string?, string?
---@field readdir fun(path: string): neap.DirectoryEntry[]?, string?, string?
---@field stat fun(path: string): neap.Stat?, string?, string?
local file = {}
for _, name in ipairs { 'rename', 'link', 'unlink', 'mkdir', 'rmdir', 'readdir', 'stat' } do
  file[name] = await(core['file_' .. name])
end

local open = await(core.file_open)
local kinds = { permissions = 'number', direct = 'boolean', synced = 'boolean' }

function file.open(path, mode, options)
  if type(options) ~= 'table' then
    return open(path, mode, options)
  end
  for name, value in pairs(options) do
    if type(value) ~= kinds[name] then
      error(("neap.file.open: option '%s' is a %s, expected %s"):format(tostring(name), type(value),
        kinds[name] and 'a ' .. kinds[name] or 'permissions, direct or synced'), 2)
    end
  end
  return open(path, mode, options.permissions, options.direct, options.synced)
end

for _, name in ipairs { 'pread', 'pwrite', 'preadv', 'pwritev', 'fsync', 'fdatasync', 'truncate', 'close' } do
  core.file_methods[name] = await(core['file_' .. name])
end

return file
