-- SPDX-License-Identifier: MIT
--
-- neap.file - files, read and written between disk and buffers without blocking the loop. All functions await.
-- An operating error is nil, the errno name ('ENOENT'), and a sentence; wrong arguments raise. close, unlink and rmdir
-- also work after the operation was canceled, so that a hook can clean up.

local await = require 'neap.await'
local core = require 'neap.core'

---@class neap.file
---@field open fun(path: string, mode?: 'r'|'r+'|'w'|'w+'|'wx', permissions?: integer): neap.File?, string?, string?
---@field rename fun(from: string, to: string): true?, string?, string?
---@field unlink fun(path: string): true?, string?, string?
---@field mkdir fun(path: string, permissions?: integer): true?, string?, string?
---@field rmdir fun(path: string): true?, string?, string?
---@field readdir fun(path: string): neap.DirectoryEntry[]?, string?, string?
---@field stat fun(path: string): neap.Stat?, string?, string?
local file = {}
for _, name in ipairs { 'open', 'rename', 'unlink', 'mkdir', 'rmdir', 'readdir', 'stat' } do
  file[name] = await(core['file_' .. name])
end

for _, name in ipairs { 'pread', 'pwrite', 'fsync', 'close' } do
  core.file_methods[name] = await(core['file_' .. name])
end

return file
