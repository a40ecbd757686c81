-- SPDX-License-Identifier: MIT
--
-- A ZeroMQ DEALER socket for LuaJIT: connect, send frames, receive frames with a timeout.

local ffi = require 'ffi'

ffi.cdef [[
typedef struct { unsigned char bytes[64]; } __attribute__((aligned(8))) neap_zmq_msg;
typedef struct { void *socket; int fd; short events; short revents; } neap_zmq_pollitem;
void *zmq_ctx_new(void);
int zmq_ctx_term(void *context);
void *zmq_socket(void *context, int type);
int zmq_close(void *socket);
int zmq_setsockopt(void *socket, int option, const void *value, size_t bytes);
int zmq_connect(void *socket, const char *endpoint);
int zmq_send(void *socket, const void *data, size_t bytes, int flags);
int zmq_msg_init(neap_zmq_msg *msg);
int zmq_msg_recv(neap_zmq_msg *msg, void *socket, int flags);
void *zmq_msg_data(neap_zmq_msg *msg);
size_t zmq_msg_size(const neap_zmq_msg *msg);
int zmq_msg_more(const neap_zmq_msg *msg);
int zmq_msg_close(neap_zmq_msg *msg);
int zmq_poll(neap_zmq_pollitem *items, int count, long timeout_ms);
int zmq_errno(void);
const char *zmq_strerror(int code);
void *dlopen(const char *name, int flags);
]]

-- The plain name is there with the development package only.
local found, lib = pcall(ffi.load, 'zmq')
if not found then lib = ffi.load 'libzmq.so.5' end
-- Stays loaded until the process is gone: when Lua ends, or collects the handle, threads of an open context still run.
local LAZY, NODELETE = 0x1, 0x1000
assert(ffi.C.dlopen('libzmq.so.5', LAZY + NODELETE) ~= nil)

local DEALER, LINGER, RECONNECT_IVL, SNDHWM, RCVHWM, SNDMORE, POLLIN, EINTR = 5, 17, 18, 23, 24, 2, 1, 4

local function check(ok, what)
  if not ok then error(what .. ': ' .. ffi.string(lib.zmq_strerror(lib.zmq_errno())), 3) end
end

---@class Dealer
---@field socket ffi.cdata*
---@field context ffi.cdata*
local Dealer = {}
Dealer.__index = Dealer

---Connects in the background: a server that is not there yet gets what was sent when it comes.
---@param endpoint string e.g. "tcp://127.0.0.1:5555"
---@return Dealer
local function dealer(endpoint)
  local context = lib.zmq_ctx_new()
  check(context ~= nil, 'zmq_ctx_new')
  local self = setmetatable({ context = context, socket = lib.zmq_socket(context, DEALER) }, Dealer)
  check(self.socket ~= nil, 'zmq_socket')
  local value = ffi.new 'int[1]'
  for option, number in pairs { [LINGER] = 0, [RECONNECT_IVL] = 20, [SNDHWM] = 0, [RCVHWM] = 0 } do
    value[0] = number
    check(lib.zmq_setsockopt(self.socket, option, value, ffi.sizeof 'int') == 0, 'zmq_setsockopt')
  end
  check(lib.zmq_connect(self.socket, endpoint) == 0, 'zmq_connect ' .. endpoint)
  self.msg = ffi.new 'neap_zmq_msg'
  self.item = ffi.new('neap_zmq_pollitem[1]', { { self.socket, 0, POLLIN, 0 } })
  return self
end

---@param frames string[] one message
function Dealer:send(frames)
  for i, frame in ipairs(frames) do
    check(lib.zmq_send(self.socket, frame, #frame, i < #frames and SNDMORE or 0) >= 0, 'zmq_send')
  end
end

---@param timeout_ms integer
---@return string[]? frames # nil when nothing came in time
function Dealer:receive(timeout_ms)
  local ready = lib.zmq_poll(self.item, 1, timeout_ms)
  check(ready >= 0 or lib.zmq_errno() == EINTR, 'zmq_poll')
  if ready <= 0 then return nil end
  local frames = {}
  repeat
    lib.zmq_msg_init(self.msg)
    check(lib.zmq_msg_recv(self.msg, self.socket, 0) >= 0, 'zmq_msg_recv')
    frames[#frames + 1] = ffi.string(lib.zmq_msg_data(self.msg), lib.zmq_msg_size(self.msg))
    local more = lib.zmq_msg_more(self.msg) ~= 0
    lib.zmq_msg_close(self.msg)
  until not more
  return frames
end

---Drops what was not sent.
function Dealer:close()
  if not self.socket then return end
  lib.zmq_close(self.socket)
  lib.zmq_ctx_term(self.context)
  self.socket = nil
end

return { dealer = dealer }
