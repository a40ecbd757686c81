-- SPDX-License-Identifier: MIT
--
-- A worker and a scheduler that store and retrieve prompts and know what must come back. A prompt is named by a
-- number; every chunk's bytes follow from prompt, position and worker, so nothing has to be remembered.

local client = require 'examples.worker.client'
local pattern = require 'examples.worker.pattern'

local CHUNK = 256

---@class Workload
---@field worker Client
---@field scheduler Client
local Workload = {}
Workload.__index = Workload

local requests, instances = 0, 4097

---@param running Server
---@param options? { hidden?: integer, timeout_ms?: integer, instance_id?: integer }
---@return Workload
local function new(running, options)
  options = options or {}
  instances = instances + 1
  local self = setmetatable({
    worker = running:connect { timeout_ms = options.timeout_ms },
    scheduler = running:connect { timeout_ms = options.timeout_ms },
    instance_id = options.instance_id or instances,
    layout = {
      model_name = 'demo/tiny-llama', world_size = 1, block_size = 128, num_layers = 2,
      hidden_dim_size = options.hidden or 256, dtype_str = 'bfloat16', use_mla = true, num_physical_slots = CHUNK,
    },
  }, Workload)
  self.worker:register(self.instance_id, self.layout)
  return self
end

local function whole(tokens) return math.floor(tokens / CHUNK) * CHUNK end

---A key for the whole chunks of a prompt, from `from` on, as a new request.
---@param prompt integer
---@param tokens integer
---@return Key
function Workload:key(prompt, tokens, from)
  requests = requests + 1
  local name = ('cmpl-%d-%d'):format(self.instance_id, requests)
  return client.key(self.layout, pattern.tokens(prompt * 7, tokens), from or 0, whole(tokens), name)
end

function Workload.seed(_, prompt, chunk) return pattern.seed(prompt, chunk) end

---@return integer chunks # that the server has; holds nothing afterwards
function Workload:hit(prompt, tokens)
  local key = client.for_all_workers(self:key(prompt, tokens))
  local chunks = self.scheduler:hit(key)
  self.scheduler:end_session(key.request_id)
  return chunks
end

---@return integer chunks # stored now
function Workload:store(prompt, tokens)
  local key = self:key(prompt, tokens)
  local stored = self.worker:store(key, function(pointer, length, chunk)
    pattern.fill(pointer, length, self:seed(prompt, chunk))
  end)
  self.scheduler:end_session(key.request_id)
  return stored
end

---Looks a prompt up, reads every chunk of the hit and compares it.
---@return integer chunks
function Workload:hit_and_verify(prompt, tokens)
  local key = self:key(prompt, tokens)
  local chunks = self.scheduler:hit(client.for_all_workers(key))
  if chunks > 0 then
    key['end'] = chunks * CHUNK
    local success = self.worker:retrieve(key, function(pointer, length, chunk)
      local offset = pattern.differs(pointer, length, self:seed(prompt, chunk))
      if offset then error(('prompt %d, chunk %d: wrong byte at %d'):format(prompt, chunk, offset), 0) end
    end)
    if not success then error(('prompt %d: %d chunks promised, not served'):format(prompt, chunks), 0) end
  end
  self.scheduler:end_session(key.request_id)
  return chunks
end

function Workload:close()
  self.worker:close()
  self.scheduler:close()
end

return { new = new, CHUNK = CHUNK }
