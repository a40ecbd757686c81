-- SPDX-License-Identifier: MIT
--
-- Plays a trace against a cache server, as a vLLM whose model takes no time would:
--
--   luajit examples/worker/trace.lua tcp://127.0.0.1:5555 TRACE.jsonl [PASSES]
--
-- TRACE has a line of JSON for each request, with "hash_ids" (Mooncake's form) and perhaps "suite" and "session" (the
-- agent form of neap's own traces; a session is told to the server as the tag lmcache.tag.session). Requests follow
-- one another at once. What is found is read, what is missing is stored; each chunk begins with a word that follows
-- from its number in the trace and is compared when it comes back. Small chunks (--chunk-size 16) make it fast. In the
-- end it stays registered, like a worker that is killed: `neap ctl explain` knows its model until the server forgets it
-- (--worker-reap-timeout-seconds). Ends with a line of figures, and with 1 if a word was wrong or a promise broken.

package.path = arg[0]:gsub('[^/]*$', '') .. '?.lua;' .. package.path
local ffi = require 'ffi'
local client = require 'client'

local ID_MAX = 2 ^ 31

local LAYOUT = {
  model_name = 'demo/trace', world_size = 1, block_size = 16, num_layers = 3, hidden_dim_size = 1024,
  dtype_str = 'bfloat16', use_mla = true,
}

local endpoint, path, passes = arg[1], arg[2], tonumber(arg[3] or 1)
if not path or not passes then
  io.stderr:write('usage: luajit trace.lua ENDPOINT TRACE.jsonl [PASSES]\n')
  os.exit(2)
end

local worker, scheduler = client.connect(endpoint), client.connect(endpoint)
local chunk_tokens = worker:call 'get_chunk_size'
local requests, asked, found, wrong = 0, 0, 0, 0

-- Tokens that follow from the numbers of the chunks: the first two tell the number, the others are the same in all.
local function tokens_of(ids)
  local tokens = {}
  for _, id in ipairs(ids) do
    tokens[#tokens + 1] = 1 + id % 65536
    tokens[#tokens + 1] = 1 + math.floor(id / 65536)
    for _ = 3, chunk_tokens do tokens[#tokens + 1] = 7 end
  end
  return tokens
end

local function word(pointer) return ffi.cast('uint64_t *', pointer) end

local function request(ids, session)
  requests, asked = requests + 1, asked + #ids
  local more = session and { request_configs = { ['lmcache.tag.session'] = session } }
  local key = client.key(LAYOUT, tokens_of(ids), 0, #ids * chunk_tokens, 'cmpl-' .. requests, more)
  local hit = scheduler:hit(client.for_all_workers(key))
  found = found + hit
  if hit > 0 then
    key['end'] = hit * chunk_tokens
    local kept = worker:retrieve(key, function(pointer, _, chunk)
      if word(pointer)[0] ~= ids[chunk + 1] then wrong = wrong + 1 end
    end)
    if not kept then wrong = wrong + 1 end
  end
  if hit < #ids then
    key.start, key['end'] = hit * chunk_tokens, #ids * chunk_tokens
    worker:store(key, function(pointer, _, chunk) word(pointer)[0] = ids[hit + chunk + 1] end)
  end
  scheduler:end_session(key.request_id)
end

local function play(line, number)
  local ids = {}
  local list = line:match '"hash_ids":%s*%[([%d%s,]*)%]'
  if not list then error(('%s:%d: expected "hash_ids" and a list of numbers'):format(path, number), 0) end
  for id in list:gmatch '%d+' do
    ids[#ids + 1] = tonumber(id)
    if ids[#ids] >= ID_MAX then error(('%s:%d: %s is more than a token tells'):format(path, number, id), 0) end
  end
  if #ids == 0 then return end
  local suite, session = line:match '"suite":%s*"([^"]*)"', line:match '"session":%s*(%d+)'
  request(ids, session and (suite or '') .. '-' .. session)
end

local file, failure = io.open(path)
if not file then
  io.stderr:write(failure, '\n')
  os.exit(1)
end
LAYOUT.num_physical_slots = chunk_tokens
math.randomseed(os.time())
worker:register(math.random(2 ^ 20, 2 ^ 31), LAYOUT)
for _ = 1, passes do
  local number = 0
  file:seek 'set'
  for line in file:lines() do
    number = number + 1
    play(line, number)
  end
end
print(('%d requests, %d chunks, %.1f %% found in the prefix, %d wrong'):format(requests, asked,
  100 * found / math.max(asked, 1), wrong))
os.exit(wrong == 0 and 0 or 1)
