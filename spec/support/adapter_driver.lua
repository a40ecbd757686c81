-- SPDX-License-Identifier: MIT
--
-- Drives any adapter from a spec, through tests/support/adapter_driver.c. Payload is a Lua string here; the adapter
-- under test sees engine buffers. Results are the names of error codes: 'NEAP_OK', 'NEAP_ENOENT', ...

local ffi = require 'ffi'

ffi.cdef [[
typedef struct test_driver test_driver;
typedef struct test_op test_op;
test_driver *test_driver_open_lua(const char *, const char *, const char *, const char *, const char *, char *, size_t);
test_driver *test_driver_open_config(const char *, const char *, const char *, char *, size_t);
uint32_t test_driver_close(test_driver *);
bool test_driver_can(test_driver *, uint32_t);
test_op *test_driver_op(test_driver *, uint32_t, uint32_t, uint64_t);
bool test_driver_object(test_driver *, test_op *, uint32_t, const char *, void *, uint64_t);
void test_driver_submit(test_driver *, test_op *);
void test_driver_cancel(test_driver *, test_op *);
void test_driver_wait(test_op *);
bool test_driver_ended(test_op *);
const char *test_driver_result(test_op *, uint32_t);
uint64_t test_driver_stored(test_op *, uint32_t);
const char *test_driver_list_result(test_op *);
void test_driver_stop_after(test_op *, uint32_t);
bool test_driver_entry(test_op *, uint32_t, char *, size_t, uint64_t *, int64_t *);
int test_driver_status(test_driver *, char *, size_t);
bool test_driver_logged(test_driver *, const char *);
void test_driver_watchdog(uint64_t);
const char *test_driver_schema(test_driver *);
void test_driver_traits(test_driver *, uint32_t *);
const char *test_driver_reconfigure(test_driver *, const char *, char *, size_t);
char *mkdtemp(char *);
int rmdir(const char *);
]]

local root = os.getenv 'NEAP_SOURCE' or '.'
local lib = ffi.load((os.getenv 'NEAP_BUILD' or root .. '/build') .. '/lib/libneap_adapter_driver.so')
local kinds = { store = 0, lookup = 1, load = 2, delete = 3, list = 4 }
local ERR_BYTES, STATUS_BYTES, KEY_BYTES = 1024, 65536, 1536

---@class spec.Driver
local Driver = {}
Driver.__index = Driver

---@class spec.Op
local Op = {}
Op.__index = Op

local M = { root = root, lua_dir = root .. '/lua' }

--- The n-th key of a fixed sequence, as NATIVE text.
function M.key(n, salt)
  return ('demo/tiny@01000100@0@%064x%s'):format(n, salt and '@' .. salt or '')
end

--- Asks until the answer is true; raises after half a minute.
function M.eventually(condition)
  local give_up = os.time() + 30
  while not condition() do
    assert(os.time() < give_up, 'waited for 30 s')
  end
end

--- How long a VM may be inside before the watchdog reports it.
function M.watchdog(limit_ms)
  lib.test_driver_watchdog(limit_ms)
end

local function opened(handle, err)
  if handle == nil then
    return nil, ffi.string(err)
  end
  return setmetatable({ handle = handle, anchors = {} }, Driver)
end

--- Opens a class of a Lua file; params is JSON text. nil and the error if it refuses.
function M.open_lua(path, class_name, params, config_class_name)
  local err = ffi.new('char[?]', ERR_BYTES)
  return opened(lib.test_driver_open_lua(M.lua_dir, path, class_name, config_class_name, params or '{}', err,
    ERR_BYTES), err)
end

--- Opens what one --l2-adapter JSON says.
function M.open_config(json, plugin_dirs)
  local err = ffi.new('char[?]', ERR_BYTES)
  return opened(lib.test_driver_open_config(M.lua_dir, json, plugin_dirs or '', err, ERR_BYTES), err)
end

--- A fresh directory, and a function that removes it with the files that `write` made in it.
function M.directory()
  local template = ffi.new('char[64]', '/tmp/neap-spec-XXXXXX')
  local dir = ffi.string(assert(ffi.C.mkdtemp(template)))
  local files = {}
  local function write(name, text)
    local path = dir .. '/' .. name
    local file = assert(io.open(path, 'wb'))
    file:write(text)
    file:close()
    files[#files + 1] = path
    return path
  end
  local function remove()
    for _, path in ipairs(files) do
      os.remove(path)
    end
    ffi.C.rmdir(dir)
  end
  return dir, write, remove
end

--- Starts an operation on items { key = text, data = string | bytes = number }.
function Driver:submit(kind, items, deadline_ms)
  items = items or {}
  local op = lib.test_driver_op(self.handle, kinds[kind], kind == 'list' and 0 or #items, deadline_ms or 0)
  local buffers = {}
  for i, item in ipairs(items) do
    local bytes = item.data and #item.data or item.bytes or 0
    if kind == 'store' or kind == 'load' then
      buffers[i] = ffi.new('uint8_t[?]', math.max(bytes, 1))
      if item.data then
        ffi.copy(buffers[i], item.data, bytes)
      end
    end
    assert(lib.test_driver_object(self.handle, op, i - 1, item.key, buffers[i], bytes), 'not a key: ' .. item.key)
  end
  self.anchors[#self.anchors + 1] = buffers -- the adapter may touch them until the operation ends
  if kind == 'list' and items.stop_after then
    lib.test_driver_stop_after(op, items.stop_after)
  end
  lib.test_driver_submit(self.handle, op)
  return setmetatable({ handle = op, buffers = buffers, items = items, driver = self }, Op)
end

function Op:wait()
  lib.test_driver_wait(self.handle)
  return self
end

function Op:cancel()
  lib.test_driver_cancel(self.driver.handle, self.handle)
end

function Op:ended()
  return lib.test_driver_ended(self.handle)
end

function Op:result(i)
  return ffi.string(lib.test_driver_result(self.handle, (i or 1) - 1))
end

function Op:stored(i)
  return tonumber(lib.test_driver_stored(self.handle, (i or 1) - 1))
end

function Op:data(i)
  return ffi.string(self.buffers[i or 1], self.items[i or 1].bytes)
end

--- The entries of a listing, and its result.
function Op:entries()
  local entries, text = {}, ffi.new('char[?]', KEY_BYTES)
  local bytes, used = ffi.new 'uint64_t[1]', ffi.new 'int64_t[1]'
  while lib.test_driver_entry(self.handle, #entries, text, KEY_BYTES, bytes, used) do
    entries[#entries + 1] = { key = ffi.string(text), bytes = tonumber(bytes[0]), used = tonumber(used[0]) }
  end
  return entries, ffi.string(lib.test_driver_list_result(self.handle))
end

function Driver:store(key, data)
  local op = self:submit('store', { { key = key, data = data } }):wait()
  return op:result(), op:stored()
end

function Driver:lookup(key)
  local op = self:submit('lookup', { { key = key } }):wait()
  return op:result(), op:stored()
end

function Driver:load(key, bytes)
  local op = self:submit('load', { { key = key, bytes = bytes } }):wait()
  return op:result(), op:data()
end

function Driver:delete(key)
  return self:submit('delete', { { key = key } }):wait():result()
end

function Driver:list(stop_after)
  return self:submit('list', { stop_after = stop_after }):wait():entries()
end

function Driver:can(kind)
  return lib.test_driver_can(self.handle, kinds[kind])
end

--- The status as JSON text.
function Driver:status()
  local text = ffi.new('char[?]', STATUS_BYTES)
  local length = lib.test_driver_status(self.handle, text, STATUS_BYTES)
  return length >= 0 and ffi.string(text, length) or nil
end

function Driver:logged(text)
  return lib.test_driver_logged(self.handle, text)
end

function Driver:schema()
  local schema = lib.test_driver_schema(self.handle)
  return schema ~= nil and ffi.string(schema) or nil
end

--- What the adapter declares; 0 is the framework's default.
function Driver:traits()
  local values = ffi.new 'uint32_t[5]'
  lib.test_driver_traits(self.handle, values)
  return { concurrency = values[0], batch = values[1], deadline_ms = values[2], retries = values[3],
    backoff_ms = values[4] }
end

--- Gives it changed parameters, as JSON text; the name of the result and the error's text.
function Driver:reconfigure(params)
  local err = ffi.new('char[?]', ERR_BYTES)
  local result = lib.test_driver_reconfigure(self.handle, params, err, ERR_BYTES)
  return ffi.string(result), ffi.string(err)
end

--- Closes the adapter; raises if an operation did not end exactly once.
function Driver:close()
  if self.handle then
    local wrong = lib.test_driver_close(self.handle)
    self.handle = nil
    assert(wrong == 0, wrong .. ' operations did not end exactly once')
  end
end

return M
