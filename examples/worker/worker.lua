-- SPDX-License-Identifier: MIT
--
-- Plays one vLLM worker and scheduler against a cache server and tells what happens:
--
--   luajit examples/worker/worker.lua [tcp://127.0.0.1:5555] [FIRST]
--
-- A prompt of 272 tokens comes twice. The first time nothing is known and its one whole chunk of 256 tokens is stored;
-- the second time it is found in the first level. Then that level is emptied, and the chunk comes back from the
-- second. Every byte read is compared with what was written. Ends with PASS or FAIL, and 0 or 1. FIRST (0) shifts the
-- tokens: another number is another prompt, for a server that remembers the last run.

package.path = arg[0]:gsub('[^/]*$', '') .. '?.lua;' .. package.path
local client = require 'client'
local pattern = require 'pattern'

local PROMPT_TOKENS, L2_WAIT_S = 272, 10

local LAYOUT = {
  model_name = 'demo/tiny-llama',
  world_size = 1,
  block_size = 128,
  num_layers = 8,
  hidden_dim_size = 256,
  dtype_str = 'bfloat16',
  use_mla = true,
}

local worker, scheduler -- one connection each, as vLLM has them
local first = tonumber(arg[2] or 0)
local chunk_tokens, whole, tokens
local failures = 0

local function tell(...) print(('  ' .. (...)):format(select(2, ...))) end

local function expect(condition, ...)
  if condition then return end
  failures = failures + 1
  tell('WRONG: ' .. (...), select(2, ...))
end

local function keys(request_id)
  local key = client.key(LAYOUT, tokens, 0, whole, request_id)
  return key, client.for_all_workers(key)
end

local function payload_seed(chunk) return pattern.seed(first, chunk) end

local function first_time()
  local key, lookup_key = keys 'story-1'
  local chunks = scheduler:hit(lookup_key)
  tell('request 1: %d tokens, %d chunks known', #tokens, chunks)
  expect(chunks == 0, '%d chunks known; expected 0 (seen before? try FIRST = %d)', chunks, first + 1)
  local stored = worker:store(key, function(pointer, length, chunk)
    pattern.fill(pointer, length, payload_seed(chunk))
  end)
  scheduler:end_session 'story-1'
  tell('request 1: %d tokens stored', stored * chunk_tokens)
  expect(stored == whole / chunk_tokens, '%d chunks stored; expected %d', stored, whole / chunk_tokens)
end

local function read_back(request_id, key)
  local wrong, read = 0, 0
  local success = worker:retrieve(key, function(pointer, length, chunk)
    read = read + length
    if pattern.differs(pointer, length, payload_seed(chunk)) then wrong = wrong + 1 end
  end)
  scheduler:end_session(request_id)
  expect(success, 'the server promised a hit and did not serve it')
  expect(wrong == 0, '%d chunks came back with other bytes', wrong)
  return read
end

local function second_time()
  local key, lookup_key = keys 'story-2'
  local chunks = scheduler:hit(lookup_key)
  tell('request 2: the same tokens, %d/%d chunks found', chunks, whole / chunk_tokens)
  expect(chunks == whole / chunk_tokens, '%d chunks found; expected %d', chunks, whole / chunk_tokens)
  tell('request 2: %d bytes read back and compared', read_back('story-2', key))
end

-- The second level is written in the background, so the first answers after the clear may still be "nothing".
local function after_clear()
  scheduler:clear(true)
  tell 'first level emptied'
  local deadline = os.time() + L2_WAIT_S
  local function try(number)
    local id = 'story-3-' .. number
    local key, lookup_key = keys(id)
    local chunks = scheduler:hit(lookup_key)
    if chunks == 0 and os.time() <= deadline then
      scheduler:end_session(id)
      return try(number + 1)
    end
    return chunks, id, key
  end
  local chunks, id, key = try(1)
  tell('request 3: the same tokens, %d/%d chunks found in the second level', chunks, whole / chunk_tokens)
  expect(chunks == whole / chunk_tokens, '%d chunks found; expected %d (is there an L2 adapter?)', chunks,
    whole / chunk_tokens)
  if chunks > 0 then tell('request 3: %d bytes read back and compared', read_back(id, key)) end
end

local function story(endpoint)
  worker, scheduler = client.connect(endpoint), client.connect(endpoint)
  chunk_tokens = worker:call 'get_chunk_size'
  scheduler:call 'get_chunk_size'
  tokens = pattern.tokens(first, math.max(PROMPT_TOKENS, chunk_tokens + 16))
  whole = math.floor(#tokens / chunk_tokens) * chunk_tokens
  LAYOUT.num_physical_slots = chunk_tokens
  worker:register(math.random(2 ^ 20, 2 ^ 31), LAYOUT)
  tell('connected to %s: %d tokens per chunk, pool %s of %d MiB', endpoint, chunk_tokens, worker.pool_name,
       worker.pool_bytes / 2 ^ 20)
  scheduler:clear(true)
  first_time()
  second_time()
  after_clear()
  worker:unregister()
end

math.randomseed(os.time())
local ok, err = pcall(story, arg[1] or 'tcp://127.0.0.1:5555')
if not ok then
  failures = failures + 1
  tell('WRONG: %s', err)
end
print(failures == 0 and 'PASS' or 'FAIL')
os.exit(failures == 0 and 0 or 1)
