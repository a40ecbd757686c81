-- SPDX-License-Identifier: MIT
---@meta
-- luacheck: ignore
--
-- What C gives to scripts (engine/src/script: buffer.c, key.c, file.c, stream.c, net.c, api.c), for language servers.
-- Never run.

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
---As pread, into 1 to 1,024 parts in turn.
---@param parts (neap.Buffer|neap.BufferPart)[]
---@param offset integer in the file
---@return integer? moved
---@return string? code
---@return string? message
function File:preadv(parts, offset) end
---@param parts (neap.Buffer|neap.BufferPart)[]
---@param offset integer in the file
---@return integer? moved
---@return string? code
---@return string? message
function File:pwritev(parts, offset) end
---@return true? ok
---@return string? code
---@return string? message
function File:fsync() end
---@return true? ok
---@return string? code
---@return string? message
function File:fdatasync() end
---@param bytes integer
---@return true? ok
---@return string? code
---@return string? message
function File:truncate(bytes) end
---@return true? ok
---@return string? code
---@return string? message
function File:close() end

---Bytes of a buffer: { buffer [, offset [, length]] }.
---@alias neap.BufferPart { [1]: neap.Buffer, [2]: integer?, [3]: integer? }

---Made by neap.net. One coroutine may read while another writes.
---@class neap.Connection
---@field closed boolean by us, or after a failure or a cancel; a peer that closes shows in reads
local Connection = {}
---Writes at most 1,024 parts in order; awaits until the kernel has all of them.
---@param ... string|neap.Buffer|neap.BufferPart
---@return true?
---@return string? code
---@return string? message
function Connection:write(...) end
---For protocol text: at most 65,536 bytes.
---@param bytes integer
---@return string?
---@return string? code 'EOF' when the peer has closed
---@return string? message
function Connection:read_exactly(bytes) end
---@param buffer neap.Buffer
---@param offset? integer
---@param length? integer
---@return true?
---@return string? code
---@return string? message
function Connection:read_exactly_into(buffer, offset, length) end
---@param delimiter string 1 to 16 bytes
---@param max? integer bytes before it, 4,096 if missing, at most 65,536; more are 'EMSGSIZE'
---@return string? without the delimiter
---@return string? code
---@return string? message
function Connection:read_until(delimiter, max) end
---Nothing more will be written; what the peer still sends can be read.
---@return true?
---@return string? code
---@return string? message
function Connection:shutdown() end
---Does not await; who waits for the connection is woken with 'ECONNABORTED'.
---@return true
function Connection:close() end
---Is it open, with nothing to be read and nobody at it? Does not await.
---@return boolean
function Connection:idle() end
---"ADDRESS:PORT", or the path of a unix socket. Does not await.
---@return string?
---@return string? code
---@return string? message
function Connection:peer() end

---@class neap.Listener
local Listener = {}
---@return neap.Connection?
---@return string? code
---@return string? message
function Listener:accept() end
---@return integer? port nil for a unix socket
function Listener:port() end
---@return true
function Listener:close() end

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
