-- SPDX-License-Identifier: MIT
---@meta
-- luacheck: ignore
--
-- What C gives to scripts (engine/src/script/buffer.c, key.c, file.c, api.c), for language servers. Never run.

---@class neap.core
local core = {}

---A handle on bytes that Lua does not see. What a hook is given is valid until the hook returns; what neap.buffer
---returns, until free() or collection. Every method raises "buffer no longer valid" afterwards. Offsets count from 0.
---@class neap.Buffer
local Buffer = {}
---@return integer bytes
function Buffer:size() end
---Copies from another buffer (or itself); raises if it does not fit.
---@param from neap.Buffer
---@param to_offset? integer
---@param from_offset? integer
---@param length? integer
---@return neap.Buffer self
function Buffer:copy(from, to_offset, from_offset, length) end
---@param other neap.Buffer
---@return boolean
function Buffer:equals(other) end
---@param offset? integer
---@param length? integer
---@return integer
function Buffer:crc32c(offset, length) end
---@param byte integer 0 to 255
---@param offset? integer
---@param length? integer
---@return neap.Buffer self
function Buffer:fill(byte, offset, length) end
---For headers and tests: at most 4,096 bytes.
---@param offset integer
---@param length integer
---@return string
function Buffer:peek(offset, length) end
---@param offset integer
---@param text string
---@return neap.Buffer self
function Buffer:poke(offset, text) end
---Gives the memory back now instead of at the next collection.
function Buffer:free() end

---A copy of an object's identity. Two keys of the same object are equal (==), but as table keys they are distinct:
---use key.text there.
---@class neap.Key
---@field text string the NATIVE form: MODEL@RANK@GROUP@HASH[@SALT]
---@field file string the FILE form, fit for a file name
---@field model string
---@field salt string
---@field hash string 64 hexadecimal digits
---@field rank integer
---@field group integer

---Reports one stored object; false: the engine wants no more.
---@alias neap.Emit fun(key: neap.Key|string, bytes: number, used_unix_s?: number): boolean

---@class neap.File
local File = {}
---Fewer bytes than asked mean the end of the file.
---@param buffer neap.Buffer
---@param offset integer in the file
---@param buffer_offset? integer
---@param length? integer
---@return integer? moved
---@return string? code
---@return string? message
function File:pread(buffer, offset, buffer_offset, length) end
---@param buffer neap.Buffer
---@param offset integer in the file
---@param buffer_offset? integer
---@param length? integer
---@return integer? moved
---@return string? code
---@return string? message
function File:pwrite(buffer, offset, buffer_offset, length) end
---@return true? ok
---@return string? code
---@return string? message
function File:fsync() end
---@return true? ok
---@return string? code
---@return string? message
function File:close() end

---@class neap.DirectoryEntry
---@field name string
---@field type 'file'|'directory'|'link'|'other'|'unknown'

---@class neap.Stat
---@field size integer
---@field mtime number seconds since 1970
---@field type 'file'|'directory'|'other'

---@param bytes integer
---@return neap.Buffer?
---@return string? code
---@return string? message
function core.buffer(bytes) end
---@param text string
---@param form? 'native'|'file'
---@return neap.Key?
function core.key(text, form) end
---@return number seconds
function core.now() end
---@param level integer
---@param text string
function core.log(level, text) end
---@return integer bytes
function core.memory() end

return core
