-- SPDX-License-Identifier: MIT
--
-- The prompts whose files LMCache's fs adapter wrote into tests/data/lmcache_fs, and how any server of the protocol is
-- made to store or serve them: without and with a tenant, one worker and two. Bytes follow from prompt, chunk, worker
-- and tenant.

local client = require 'examples.worker.client'
local pattern = require 'examples.worker.pattern'

local M = { files = 8 }

local prompts = {
  { start = 1, tokens = 600, world_size = 1, salt = '' },
  { start = 1, tokens = 600, world_size = 1, salt = 'tenantA' },
  { start = 9, tokens = 530, world_size = 2, salt = '' },
}

local CHUNK = 256

local function layout(world_size)
  return {
    model_name = 'demo/tiny-llama', world_size = world_size, block_size = 16, num_layers = 2, hidden_dim_size = 2,
    dtype_str = 'bfloat16', use_mla = true, num_physical_slots = CHUNK,
  }
end

local function key(prompt, worker)
  local id = ('files-%d-%d-%s'):format(prompt.start, worker, prompt.salt)
  local tokens = pattern.tokens(prompt.start, prompt.tokens)
  return client.key(layout(prompt.world_size), tokens, 0, math.floor(prompt.tokens / CHUNK) * CHUNK, id, {
    worker_id = worker, cache_salt = prompt.salt,
  })
end

-- Calls visit(connection, key, seed) for every prompt and worker, as that worker; seed(chunk) is that chunk's. All
-- workers are registered before the first visit: a lookup covers every one of its world.
local function each(endpoint, visit)
  local connections = {}
  local function worker_of(world_size, worker)
    local connection = client.connect(endpoint, { timeout_ms = 30000 })
    connections[#connections + 1] = connection
    connection:register(100 + 10 * world_size + worker, layout(world_size))
    return connection
  end
  local workers = { { [0] = worker_of(1, 0) }, { [0] = worker_of(2, 0), [1] = worker_of(2, 1) } }
  local ok, message = pcall(function()
    for _, prompt in ipairs(prompts) do
      for worker = 0, prompt.world_size - 1 do
        visit(workers[prompt.world_size][worker], key(prompt, worker), function(chunk)
          return pattern.seed(prompt.start, chunk, worker, prompt.salt)
        end)
      end
    end
  end)
  for _, connection in ipairs(connections) do connection:close() end
  if not ok then error(message, 0) end
end

---Stores all of them.
---@param endpoint string
---@return integer chunks # stored now
function M.store(endpoint)
  local stored = 0
  each(endpoint, function(connection, k, seed)
    local function fill(pointer, length, chunk) pattern.fill(pointer, length, seed(chunk)) end
    stored = stored + connection:store(k, fill)
    connection:end_session(k.request_id)
  end)
  return stored
end

---Looks all of them up and reads them; an error if anything is missing or wrong.
---@param endpoint string
---@return integer chunks # that were right, shards counted one by one
function M.check(endpoint)
  local right = 0
  each(endpoint, function(connection, k, seed)
    local expected = k['end'] / CHUNK
    local hit = connection:hit(client.for_all_workers(k))
    if hit ~= expected then error(('%s: %d chunks hit, expected %d'):format(k.request_id, hit, expected), 0) end
    local served = connection:retrieve(k, function(pointer, length, chunk)
      local offset = pattern.differs(pointer, length, seed(chunk))
      if offset then error(('%s, chunk %d: wrong byte at %d'):format(k.request_id, chunk, offset), 0) end
      right = right + 1
    end)
    if not served then error(k.request_id .. ': promised and not served', 0) end
    connection:end_session(k.request_id)
  end)
  return right
end

return M
