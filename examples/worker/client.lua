-- SPDX-License-Identifier: MIT
--
-- The client side of LMCache's multiprocess protocol, as vLLM's scheduler and workers speak it.
--
-- A request is the message [uid][op][argument]..., every frame one MessagePack value; the reply is [uid][op][result],
-- without the third frame when the result is None. One Client is one connection. Calls wait for their reply; `submit`
-- and `wait` are the two halves, for more than one request in flight.

local here = (...):gsub('client$', '')
local msgpack = require(here .. 'msgpack')
local shm = require(here .. 'shm')
local zmq = require(here .. 'zmq')

local OPS = {
  lookup = 8,
  query_prefetch_status = 9,
  wait_prefetch_status = 10,
  free_lookup_locks = 12,
  end_session = 13,
  register_kv_cache_engine_driven_context = 14,
  unregister_kv_cache_engine_driven_context = 15,
  prepare_store = 16,
  commit_store = 17,
  prepare_retrieve = 18,
  commit_retrieve = 19,
  clear = 20,
  get_chunk_size = 21,
  ping = 22,
  report_block_allocation = 23,
  noop = 24,
  get_experimental = 32,
}

---What names the chunks of one request.
---@class Key
---@field model_name string
---@field world_size integer
---@field worker_id integer|table worker, or msgpack.null in lookup and free (all workers)
---@field token_ids integer[] the whole prompt
---@field start integer first token of the range
---@field end integer token behind the range
---@field request_id string
---@field cache_salt string tenant
---@field num_kv_readers integer

---@class Layout
---@field model_name string
---@field world_size integer
---@field block_size integer
---@field num_layers integer
---@field hidden_dim_size integer
---@field dtype_str string
---@field use_mla boolean one plane instead of K and V

---@class Slot
---@field offset integer
---@field length integer
---@field shape integer[]
---@field dtype string

---@class Client
---@field timeout_ms integer
---@field segment Segment?
local Client = {}
Client.__index = Client

---@param endpoint string
---@param options? { timeout_ms?: integer }
---@return Client
local function connect(endpoint, options)
  return setmetatable({
    socket = zmq.dealer(endpoint),
    timeout_ms = options and options.timeout_ms or 10000,
    next_uid = 0,
    replies = {},
  }, Client)
end

---Sends a request.
---@param op string|integer
---@return integer uid
function Client:submit(op, ...)
  local uid = self.next_uid
  self.next_uid = uid + 1
  local frames = { msgpack.encode(uid), msgpack.encode(OPS[op] or op) }
  for i = 1, select('#', ...) do frames[i + 2] = msgpack.encode((select(i, ...))) end
  self.socket:send(frames)
  return uid
end

---Waits for the reply to a request. A result of None is nil.
---@return boolean answered, any result
function Client:wait(uid, timeout_ms)
  while not self.replies[uid] do
    local frames = self.socket:receive(timeout_ms or self.timeout_ms)
    if not frames then return false end
    local number = msgpack.decode(frames[1])
    self.replies[number] = frames
  end
  local frames = self.replies[uid]
  self.replies[uid] = nil
  if not frames[3] then return true, nil end
  local result = msgpack.decode(frames[3])
  if result == msgpack.null then result = nil end
  return true, result
end

---A request and its reply. A server that does not answer in time is an error.
function Client:call(op, ...)
  local answered, result = self:wait(self:submit(op, ...))
  if not answered then error(('no answer to %s within %d ms'):format(op, self.timeout_ms), 2) end
  return result
end

---Tells the server what this worker's chunks look like and maps the pool they live in.
---@param instance_id integer|ffi.cdata* uint64_t, one per worker process
---@param layout Layout
function Client:register(instance_id, layout)
  local payload = { instance_id = instance_id }
  for name, value in pairs(layout) do payload[name] = value end
  local answer = self:call('register_kv_cache_engine_driven_context', payload)
  if self.segment then self.segment:close() end
  self.instance_id, self.pool_name, self.pool_bytes = instance_id, answer.shm_name, answer.pool_size
  self.segment = assert(shm.open(answer.shm_name))
end

function Client:unregister() self:call('unregister_kv_cache_engine_driven_context', self.instance_id) end

---@param key Key
function Client:lookup(key) self:call('lookup', key, key.world_size) end

---@return integer? chunks # nil while loading
function Client:status(request_id) return self:call('query_prefetch_status', request_id) end

---A lookup and its answer: how many chunks from the start of the prompt are there.
---@return integer chunks
function Client:hit(key)
  self:lookup(key)
  local deadline = os.time() + self.timeout_ms / 1000 + 1
  repeat
    local chunks = self:status(key.request_id)
    if chunks then return chunks end
  until os.time() > deadline
  error('the lookup did not finish in time', 2)
end

---Gives back what a lookup holds of the chunks inside the key's range.
function Client:free(key) self:call('free_lookup_locks', key, key.world_size) end

function Client:end_session(request_id) self:call('end_session', request_id) end

---@return Slot[] slots, integer[] chunk_indices # of the chunks that the server lacks, counted from the range's start
function Client:prepare_store(key)
  local answer = self:call('prepare_store', key, self.instance_id)
  return answer.context.slots, answer.context.chunk_indices
end

---@return boolean stored
function Client:commit_store(key) return self:call('commit_store', key, self.instance_id, msgpack.bin '') end

---@return boolean success, Slot[] slots
function Client:prepare_retrieve(key)
  local answer = self:call('prepare_retrieve', key, self.instance_id)
  return answer.success, answer.context.slots or {}
end

function Client:commit_retrieve(key) return self:call('commit_retrieve', key, self.instance_id) end

---Empties the first level; with force also what is in use.
function Client:clear(force) self:call('clear', force) end

---@param instance_id? integer|ffi.cdata* nil is the scheduler
function Client:ping(instance_id) return self:call('ping', instance_id or msgpack.null) end

---Writes the chunks of the key's range that the server lacks.
---@param fill fun(pointer: ffi.cdata*, length: integer, chunk: integer) chunk counts from the range's start
---@return integer stored # chunks
function Client:store(key, fill)
  local slots, chunk_indices = self:prepare_store(key)
  if #slots == 0 then return 0 end
  for i, slot in ipairs(slots) do fill(self.segment:at(slot.offset, slot.length), slot.length, chunk_indices[i]) end
  return self:commit_store(key) and #slots or 0
end

---Reads the chunks of the key's range, which a lookup has found.
---@param read fun(pointer: ffi.cdata*, length: integer, chunk: integer)
---@return boolean success
function Client:retrieve(key, read)
  local success, slots = self:prepare_retrieve(key)
  for i, slot in ipairs(slots) do read(self.segment:at(slot.offset, slot.length), slot.length, i - 1) end
  self:commit_retrieve(key)
  return success
end

function Client:close()
  if self.segment then self.segment:close() end
  self.socket:close()
end

---A key for tokens [from, to) of a prompt.
---@return Key
local function key(layout, tokens, from, to, request_id, more)
  local k = {
    model_name = layout.model_name,
    world_size = layout.world_size,
    worker_id = 0,
    token_ids = tokens,
    start = from,
    ['end'] = to,
    request_id = request_id,
    cache_salt = '',
    request_configs = msgpack.null,
    num_kv_readers = 1,
  }
  for name, value in pairs(more or {}) do k[name] = value end
  return k
end

---The same key as lookup and free want it: for all workers.
local function for_all_workers(of)
  local k = {}
  for name, value in pairs(of) do k[name] = value end
  k.worker_id = msgpack.null
  return k
end

return { connect = connect, key = key, for_all_workers = for_all_workers, OPS = OPS }
