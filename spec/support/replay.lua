-- SPDX-License-Identifier: MIT
--
-- Plays the client's half of a recorded conversation to a server, frame by frame as recorded, and compares what comes
-- back. Worker payloads were not recorded: every slot the server grants is filled with a pattern of its chunk, and
-- every slot it serves is compared with that pattern.
--
-- Equal means: uid and op echoed to the byte, the same decoded result. Left out is what names a place or a moment:
-- pool name, pool size, offsets, how often a status was "not yet", the list of experimental capabilities. The KV event
-- stream is not played: a client opens it only when the server offers it.

local msgpack = require 'examples.worker.msgpack'
local pattern = require 'examples.worker.pattern'
local shm = require 'examples.worker.shm'
local zmq = require 'examples.worker.zmq'
local server = require 'spec.support.server'

local ANSWER_MS, SETTLE_S, CHUNK = 20000, 20, 256

local M = {}

---@class Line
---@field from 'c2s'|'s2c'
---@field client integer
---@field op string
---@field frames string[]

---@return Line[]
function M.load(name)
  local lines = {}
  local pipe = assert(io.popen(("xz -dc tests/data/wire/%s.jsonl.xz"):format(name)))
  for text in pipe:lines() do
    local from = text:match '"dir":"(%w+)"'
    if from ~= 'event' then
      local frames = {}
      for hex in text:match('"frames":%[([^%]]*)%]'):gmatch '"(%x*)"' do
        frames[#frames + 1] = hex:gsub('%x%x', function(h) return string.char(tonumber(h, 16)) end)
      end
      local client, op = text:match '"client":(%d+)', text:match '"op":"([%w_]*)"'
      lines[#lines + 1] = { from = from, client = tonumber(client), op = op, frames = frames }
    end
  end
  pipe:close()
  assert(#lines > 0, 'no lines in ' .. name)
  return lines
end

---A result as text, for comparison and for messages.
function M.show(value)
  local kind = msgpack.kind(value)
  if kind == 'bin' then return ('bin(%d)'):format(#value.bytes) end
  if kind == 'string' then return ('%q'):format(value) end
  if kind == 'array' then
    local parts = {}
    for i, member in ipairs(value) do parts[i] = M.show(member) end
    return '[' .. table.concat(parts, ', ') .. ']'
  end
  if kind == 'map' then
    local parts = {}
    for name, member in pairs(value) do parts[#parts + 1] = name .. ': ' .. M.show(member) end
    table.sort(parts)
    return '{' .. table.concat(parts, ', ') .. '}'
  end
  return tostring(value)
end

-- What may differ is replaced by one word on both sides, if it is of the right kind.
local function settle_slots(result)
  local slots = msgpack.kind(result) == 'map' and msgpack.kind(result.context) == 'map' and result.context.slots
  for _, slot in ipairs(slots or {}) do
    if msgpack.kind(slot.offset) == 'integer' then slot.offset = 'anywhere' end
  end
end

local normalise = {
  register_kv_cache_engine_driven_context = function(result)
    if type(result.shm_name) == 'string' and #result.shm_name > 0 then result.shm_name = 'a name' end
    if type(result.pool_size) == 'number' and result.pool_size > 0 then result.pool_size = 'a size' end
  end,
  get_experimental = function(result)
    for i = #result, 1, -1 do result[i] = nil end
  end,
  prepare_store = settle_slots,
  prepare_retrieve = function(result)
    settle_slots(result)
    result.data = nil -- only the pickle fallback has any, and it may be left out
  end,
}

local function comparable(op, frame)
  if not frame then return 'no payload' end
  local ok, result = pcall(msgpack.decode, frame)
  if not ok then return 'undecodable: ' .. result end
  if normalise[op] and type(result) == 'table' then normalise[op](result) end
  return M.show(result)
end

---@class Replay
local Replay = {}
Replay.__index = Replay

---@param running Server
---@param l2_directory string where its fs adapter writes
function M.new(running, l2_directory)
  return setmetatable({
    server = running, l2_directory = l2_directory,
    connections = {}, segments = {}, committed = {}, committed_count = 0, differences = {}, compared = 0,
    looking = {}, promised = {},
  }, Replay)
end

function Replay:differ(...)
  self.differences[#self.differences + 1] = self.file .. ': ' .. (...):format(select(2, ...))
end

function Replay:connection(client)
  local c = self.connections[client]
  if not c then
    c = { socket = zmq.dealer(self.server.endpoint), replies = {}, requests = {} }
    self.connections[client] = c
  end
  return c
end

-- A conversation opens new connections after a restart, under new numbers; the old ones are done with.
function Replay:hang_up()
  for _, c in pairs(self.connections) do c.socket:close() end
  self.connections = {}
end

-- Identity of the chunks of a key: what a prompt was up to the chunk's end, for whom.
local function each_chunk(key, visit)
  local hash = 7
  for i = 1, key['end'] do
    hash = (hash * 31 + key.token_ids[i]) % 4294967291
    if i % CHUNK == 0 and i > key.start then
      visit((i - key.start) / CHUNK - 1, pattern.seed(hash, i / CHUNK, key.worker_id, key.cache_salt .. key.model_name))
    end
  end
end

function Replay:remember(op, request, frame)
  local result = frame and msgpack.decode(frame)
  local key, instance = request.args[1], request.args[2]
  if op == 'register_kv_cache_engine_driven_context' then
    self.segments[tostring(key.instance_id)] = assert(shm.open(result.shm_name))
    return
  end
  local segment = self.segments[tostring(instance)]
  local slots = type(result) == 'table' and result.context and result.context.slots or {}
  if op == 'prepare_store' then
    local seeds = {}
    each_chunk(key, function(index, seed) seeds[index] = seed end)
    local staged = {}
    for i, slot in ipairs(slots) do
      local seed = seeds[result.context.chunk_indices[i]]
      pattern.fill(segment:at(slot.offset, slot.length), slot.length, seed)
      staged[i] = tostring(seed)
    end
    request.connection.staged = staged
  elseif op == 'commit_store' and result == true then
    for _, chunk in ipairs(request.connection.staged or {}) do
      if not self.committed[chunk] then self.committed_count = self.committed_count + 1 end
      self.committed[chunk] = true
    end
  elseif op == 'prepare_retrieve' then
    each_chunk(key, function(index, seed)
      local slot = slots[index + 1]
      if slot and pattern.differs(segment:at(slot.offset, slot.length), slot.length, seed) then
        self:differ('chunk %d of %s came back with other bytes', index, key.request_id)
      end
    end)
  end
end

-- Every committed chunk has reached the second level: what a clear or a restart finds there is then known.
function Replay:settle()
  local arrived = server.eventually(SETTLE_S, function()
    return #server.files(self.l2_directory, '.data') >= self.committed_count
  end)
  if not arrived then
    self:differ('%d files in L2, %d chunks committed', #server.files(self.l2_directory, '.data'), self.committed_count)
  end
end

-- The recorded server had found an answer to every earlier lookup by the time this chunk was there. Played without the
-- recorded pauses, a lookup that is still on its way to L2 would find the chunk.
function Replay:finish_lookups()
  for id, question in pairs(self.looking) do self:status(question, id, self:ask(question)) end
end

function Replay:send(line)
  if line.op == 'clear' then self:settle() end
  if line.op == 'commit_store' then self:finish_lookups() end
  local c = self:connection(line.client)
  local request = { op = line.op, args = {}, connection = c, line = line }
  for i = 3, #line.frames do request.args[i - 2] = msgpack.decode(line.frames[i]) end
  c.requests[line.frames[1]] = request
  c.socket:send(line.frames)
end

-- The reply to the request with this uid frame.
function Replay:receive(client, uid)
  local c = self:connection(client)
  while not c.replies[uid] do
    local frames = c.socket:receive(ANSWER_MS)
    if not frames then return nil end
    c.replies[frames[1]] = frames
  end
  local frames = c.replies[uid]
  c.replies[uid] = nil
  return frames
end

function Replay:ask(question)
  self:connection(question.client).socket:send(question.frames)
  return self:receive(question.client, question.frames[1])
end

-- "Not yet" may be said more or less often than it was, but what is said in the end must be the same. The answer is
-- given once; later questions are answered with 0.
function Replay:status(question, id, frames, once)
  if self.promised[id] then return end
  while frames and not frames[3] and not once do
    frames = self:ask(question)
  end
  if not frames then return self:differ('%s: no final answer to %s', id, question.op) end
  if not frames[3] then return end
  self.promised[id] = comparable(question.op, frames[3])
  self.looking[id] = nil
end

---@param exceptions table[] { op, reason, accept(got, recorded, request) }
function Replay:compare(line, exceptions)
  local c = self:connection(line.client)
  local request = c.requests[line.frames[1]]
  local frames = self:receive(line.client, line.frames[1])
  if not frames then return self:differ('%s was not answered', line.op) end
  self.compared = self.compared + 1
  c.requests[line.frames[1]] = nil
  if frames[2] ~= line.frames[2] then self:differ('%s came back with another op frame', line.op) end
  local got, recorded = comparable(line.op, frames[3]), comparable(line.op, line.frames[3])
  if line.op == 'query_prefetch_status' then
    local id = request.args[1]
    self:status(request.line, id, frames, not line.frames[3])
    if not line.frames[3] then return end
    got = self.promised[id]
    self.promised[id] = nil
  end
  if line.op == 'lookup' then
    local id = request.args[1].request_id
    self.looking[id] = self.questions[id]
  end
  self:remember(line.op, request, frames[3])
  if got == recorded then return end
  for _, exception in ipairs(exceptions) do
    if exception.op == line.op and exception.accept(got, recorded, request) then return end
  end
  self:differ('%s answered %s; recorded was %s', line.op, got, recorded)
end

-- How the status of each lookup was asked for, by request id.
local function questions(lines)
  local by_id = {}
  for _, line in ipairs(lines) do
    if line.from == 'c2s' and line.op == 'query_prefetch_status' then by_id[msgpack.decode(line.frames[3])] = line end
  end
  return by_id
end

---Plays one file.
---@param name string
---@param exceptions? table[]
function Replay:play(name, exceptions)
  self.file = name
  local lines = M.load(name)
  self.questions = questions(lines)
  for _, line in ipairs(lines) do
    local streamed = line.op == 'subscribe_kv_events' or line.frames[2] == ''
    if line.from == 'c2s' and not streamed then
      self:send(line)
    elseif not streamed then
      self:compare(line, exceptions or {})
    end
  end
  for client, c in pairs(self.connections) do
    for uid, request in pairs(c.requests) do
      if not self:receive(client, uid) then self:differ('%s was not answered (nor was it recorded)', request.op) end
    end
    c.requests = {}
  end
end

function Replay:close()
  self:hang_up()
  for _, segment in pairs(self.segments) do segment:close() end
end

return M
