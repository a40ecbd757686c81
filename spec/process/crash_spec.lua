-- SPDX-License-Identifier: MIT
--
-- kill -9 while two workers store and retrieve. A request that finds the server dead is sent again to the next one, as
-- a client that reconnects does. What was committed must be found, what is found must be right, and what was promised
-- must be served, also across the kill.
--
-- NEAP_PROCESS_KILLS is the number of kills (20), NEAP_SEED repeats a run.

local client = require 'examples.worker.client'
local pattern = require 'examples.worker.pattern'
local server = require 'spec.support.server'
local workload = require 'spec.support.workload'

local KILLS = tonumber(os.getenv 'NEAP_PROCESS_KILLS' or 20)
local SEED = tonumber(os.getenv 'NEAP_SEED' or os.time() % 100000)
local PROMPTS, CHUNKS_MAX, CHUNK = 40, 5, workload.CHUNK
local ANSWER_S, KILL_WITHIN_MS = 30, 60

describe('a server killed at random moments under two workers', function()
  local running, workers, restarts, committed, random

  before_each(function()
    running = server.start { l1_size_gb = 0.0625 }
    restarts, committed = 0, {}
    math.randomseed(SEED)
    random = math.random
  end)

  after_each(function()
    if running then running:discard() end
    running = nil
  end)

  -- Now and then the next server is killed as well, while it takes the pool over.
  local function bring_back()
    restarts = restarts + 1
    if random(4) == 1 then
      running:exec()
      server.pause(random(0, 30))
      running:kill()
    end
    running:restart()
  end

  -- Client:call, but a dead server is brought back and asked again.
  local function stubborn_call(self, op, ...)
    local deadline = server.now() + ANSWER_S
    local uid = self:submit(op, ...)
    while true do
      local answered, result = self:wait(uid, 20)
      if answered then return result end
      if not running:alive() then
        bring_back()
        uid = self:submit(op, ...)
      end
      if server.now() > deadline then error('no answer to ' .. op .. ':\n' .. running:output():sub(-2000), 0) end
    end
  end

  -- Result of a call that means the same only if the server lived through it.
  local function in_one_life(attempt)
    while true do
      local life = restarts
      local result = attempt()
      if life == restarts then return result end
    end
  end

  local function lookup(w, key)
    return in_one_life(function() return w.scheduler:hit(client.for_all_workers(key)) end)
  end

  local function mark(prompt, chunk_indices)
    committed[prompt] = committed[prompt] or {}
    for _, chunk in ipairs(chunk_indices) do committed[prompt][chunk] = true end
  end

  -- Staged and filled buffers belong to the worker until it commits, whatever happens to the server.
  local function store(w, prompt, chunks)
    local key = w:key(prompt, chunks * CHUNK)
    local slots, chunk_indices = w.worker:prepare_store(key)
    for i, slot in ipairs(slots) do
      local pointer = w.worker.segment:at(slot.offset, slot.length)
      pattern.fill(pointer, slot.length, w:seed(prompt, chunk_indices[i]))
    end
    if #slots > 0 then
      local life = restarts
      local stored = w.worker:commit_store(key)
      -- After a kill, false says that the first commit had been carried out; its answer was lost.
      if not stored and life == restarts then error('a reservation was lost by prompt ' .. prompt, 0) end
      mark(prompt, chunk_indices)
    end
    w.scheduler:end_session(key.request_id)
    return #slots
  end

  local function whole_prefix(prompt)
    local count = 0
    while committed[prompt] and committed[prompt][count] do count = count + 1 end
    return count
  end

  local function verify(w, prompt, chunks)
    local expected = math.min(whole_prefix(prompt), chunks)
    local key = w:key(prompt, chunks * CHUNK)
    local hit = lookup(w, key)
    if hit ~= expected then error(('prompt %d: %d chunks found, %d committed'):format(prompt, hit, expected), 0) end
    if hit > 0 then
      key['end'] = hit * CHUNK
      local success, slots = w.worker:prepare_retrieve(key)
      if not success then error(('prompt %d: %d chunks promised, not served'):format(prompt, hit), 0) end
      for i, slot in ipairs(slots) do
        local pointer = w.worker.segment:at(slot.offset, slot.length)
        local offset = pattern.differs(pointer, slot.length, w:seed(prompt, i - 1))
        if offset then error(('prompt %d, chunk %d: wrong byte at %d'):format(prompt, i - 1, offset), 0) end
      end
      assert(w.worker:commit_retrieve(key), 'commit_retrieve was refused')
    end
    w.scheduler:end_session(key.request_id)
    return hit
  end

  local function new_workers()
    workers = {}
    for i = 1, 2 do
      workers[i] = workload.new(running, { hidden = 64 })
      workers[i].worker.call, workers[i].scheduler.call = stubborn_call, stubborn_call
    end
  end

  it(('loses no committed chunk and serves no wrong byte (%d kills, seed %d)'):format(KILLS, SEED), function()
    new_workers()
    local stored, read = 0, 0
    for _ = 1, KILLS do
      local life = restarts
      running:kill_after(random(0, KILL_WITHIN_MS))
      while life == restarts do
        local w, prompt, chunks = workers[random(2)], random(PROMPTS), random(CHUNKS_MAX)
        if random(2) == 1 then
          stored = stored + store(w, prompt, chunks)
        else
          read = read + verify(w, prompt, chunks)
        end
      end
      for prompt = 1, PROMPTS do read = read + verify(workers[random(2)], prompt, CHUNKS_MAX) end
    end
    assert.is_true(stored > 0 and read > 0, 'nothing was stored or read')
    assert.is_true(restarts >= KILLS)

    -- Nothing is held any more by requests that ended: a gentle clear takes all.
    workers[1].scheduler:clear(false)
    for prompt = 1, PROMPTS do assert.equal(0, lookup(workers[1], workers[1]:key(prompt, CHUNK))) end
    for _, w in ipairs(workers) do w:close() end
    assert.equal(0, running:stop())
    assert.same({}, running:segments())
  end)

  it('keeps what a request was promised before the kill', function()
    new_workers()
    local w = workers[1]
    store(w, 1, 3)
    local key = w:key(1, 3 * CHUNK)
    assert.equal(3, lookup(w, key))
    running:kill()
    running:restart()
    w.scheduler:clear(false)
    local success, slots = w.worker:prepare_retrieve(key)
    assert.is_true(success)
    for i, slot in ipairs(slots) do
      assert.is_nil(pattern.differs(w.worker.segment:at(slot.offset, slot.length), slot.length, w:seed(1, i - 1)))
    end
    assert.is_true(w.worker:commit_retrieve(key))
    for _, each in ipairs(workers) do each:close() end
  end)

  it('never publishes what a worker had reserved and not committed', function()
    new_workers()
    local w = workers[1]
    local slots = w.worker:prepare_store(w:key(2, 2 * CHUNK))
    assert.equal(2, #slots)
    running:kill()
    running:restart()
    assert.equal(0, w:hit(2, 2 * CHUNK))
    w.worker:unregister()
    assert.equal(0, w:hit(2, 2 * CHUNK))
    for _, each in ipairs(workers) do each:close() end
  end)
end)
