-- SPDX-License-Identifier: MIT
--
-- kill -9 in the middle of writes to the second level, while two workers store and retrieve.
--
-- Of the server, which comes back over an empty first level, so that all it serves comes from its store; and of the
-- store, while the server lives on. What the store listed before the kill it has afterwards, if it keeps anything;
-- chunks that had all been listed are served; what is served is right to the byte; a request is at worst a miss.
--
-- NEAP_PROCESS_KILLS is the number of kills (20) of all tests here together, NEAP_SEED repeats a run.

local get = require 'spec.support.http_get'
local redis = require 'spec.support.redis'
local server = require 'spec.support.server'
local workload = require 'spec.support.workload'

local KILLS = tonumber(os.getenv 'NEAP_PROCESS_KILLS' or 20)
local SEED = tonumber(os.getenv 'NEAP_SEED' or os.time() % 100000)
local CHUNKS_MAX, CHUNK = 4, workload.CHUNK
local ANSWER_S, KILL_WITHIN_MS, HIDDEN = 30, 40, 64
local ROUNDS_PER_STORE = 10 -- then an empty one, so that a round stays short
local OLD_PER_ROUND = 5     -- earlier prompts that a round reads again
local DEAD = 'the server is dead'

local random = math.random

local function share(part) return math.max(1, math.floor(KILLS * part + 0.5)) end

describe('kill -9 in the middle of writes to the second level', function()
  local running, directory, workers, prompts, next_prompt, redis_server
  local kills, stored, read, acknowledged, cut

  before_each(function()
    math.randomseed(SEED)
    directory, workers, prompts, next_prompt = server.directory(), {}, {}, 0
    kills, stored, read, acknowledged, cut = 0, 0, 0, 0, 0
  end)

  after_each(function()
    if running then running:discard() end
    if redis_server then redis_server:discard() end
    running, redis_server = nil, nil
    server.remove(directory)
  end)

  local function launch(adapter)
    running = server.start { l1_size_gb = 0.0625, l2 = { adapter } }
  end

  -- Client:call that notices at once when the server is gone.
  local function call(self, op, ...)
    local deadline = server.now() + ANSWER_S
    local uid = self:submit(op, ...)
    while true do
      local answered, result = self:wait(uid, 5)
      if answered then return result end
      if not running:alive() then error(DEAD, 0) end
      if server.now() > deadline then error('no answer to ' .. op .. ':\n' .. running:output():sub(-2000), 0) end
    end
  end

  local function drop_workers()
    for _, w in ipairs(workers) do w:close() end
    workers = {}
  end

  local function new_workers()
    drop_workers()
    for i = 1, 2 do
      workers[i] = workload.new(running, { hidden = HIDDEN })
      workers[i].worker.call, workers[i].scheduler.call = call, call
    end
  end

  local function any_worker() return workers[random(2)] end

  -- A prompt that nobody has had before.
  local function store_new(list)
    next_prompt = next_prompt + 1
    local prompt = { number = next_prompt, chunks = random(CHUNKS_MAX) }
    list[#list + 1] = prompt
    local chunks = any_worker():store(prompt.number, prompt.chunks * CHUNK)
    if chunks ~= prompt.chunks then
      error(('prompt %d: %d of %d chunks stored'):format(prompt.number, chunks, prompt.chunks), 0)
    end
    stored = stored + chunks
    return chunks
  end

  local function verify(prompt)
    local hit = any_worker():hit_and_verify(prompt.number, prompt.chunks * CHUNK)
    if prompt.whole and hit < prompt.chunks then
      error(('prompt %d: %d of %d chunks are left\n%s'):format(prompt.number, hit, prompt.chunks,
        running:output():sub(-2000)), 0)
    end
    if hit < prompt.chunks then cut = cut + 1 end
    read = read + hit
  end

  local function listed()
    local names, count = get.objects(running)
    if names then return names, count end
    -- A socket is closed a little before the process can be waited for.
    assert(server.eventually(ANSWER_S, function() return not running:alive() end), 'no listing')
    error(DEAD, 0)
  end

  local function expect_all(before, now)
    for name in pairs(before) do
      acknowledged = acknowledged + 1
      if not now[name] then error('the store has lost ' .. name .. '\n' .. running:output():sub(-2000), 0) end
    end
  end

  -- Runs until the server dies. Anything else that ends it is a failure.
  local function until_dead(action)
    local ok, failure = pcall(action)
    assert(not ok, 'ended')
    if failure ~= DEAD then error(failure, 0) end
  end

  -- Nothing of the server is left but what its store has written. Now and then the next server is killed, too, while
  -- it reads that.
  local function come_back()
    kills = kills + 1
    repeat
      for _, name in ipairs(running:segments()) do os.remove('/dev/shm/' .. name) end
      local again = random(4) == 1
      if again then
        running:exec()
        server.pause(random(0, 30))
        running:kill()
        kills = kills + 1
      end
    until not again
    running:restart()
    new_workers()
  end

  -- Stores, reads and lists without a pause until the server dies; returns what the last listing contained.
  local function work_until_dead(known)
    local base, offered, fresh, names = 0, 0, {}, known
    for _ in pairs(known) do base = base + 1 end
    local function list()
      local now, count = listed()
      names = now
      if count < base + offered then return false end
      assert.equal(base + offered, count)
      for _, prompt in ipairs(fresh) do prompt.whole = true end
      return true
    end
    until_dead(function()
      for _ = 1, random(0, 3) do offered = offered + store_new(fresh) end
      assert(server.eventually(ANSWER_S, list), 'the second level never had what was stored')
      running:kill_after(random(0, KILL_WITHIN_MS))
      while true do
        local dice = random(10)
        if dice <= 6 then
          offered = offered + store_new(fresh)
        elseif dice <= 8 and #prompts > 0 then
          verify(prompts[random(#prompts)])
        else
          list()
        end
      end
    end)
    for _, prompt in ipairs(fresh) do prompts[#prompts + 1] = prompt end
    return names, #fresh
  end

  local function verify_some(last)
    for i = #prompts - last + 1, #prompts do verify(prompts[i]) end
    for _ = 1, math.min(#prompts, OLD_PER_ROUND) do verify(prompts[random(#prompts)]) end
  end

  -- One store from empty to some rounds.
  local function lives_of_a_store(adapter, until_kills)
    local before = {}
    launch(adapter)
    new_workers()
    prompts = {}
    for _ = 1, ROUNDS_PER_STORE do
      if kills >= until_kills then break end
      local names, last = work_until_dead(before)
      come_back()
      before = listed()
      expect_all(names, before)
      verify_some(last)
    end
    for _, prompt in ipairs(prompts) do verify(prompt) end
    drop_workers()
    assert.equal(0, running:stop())
    running:discard()
    running = nil
  end

  local function report()
    print(('%d kills: %d chunks stored, %d read, %d listed before and after, %d prompts cut'):format(
      kills, stored, read, acknowledged, cut))
  end

  local function kill_servers(adapter, count)
    local stores = 0
    while kills < count do
      stores = stores + 1
      lives_of_a_store(adapter:format(('%s/store%d'):format(directory, stores)), count)
      os.execute(("rm -rf '%s/store%d'"):format(directory, stores))
    end
    assert.is_true(stored > 0 and read > 0 and acknowledged > 0, 'nothing was stored or read')
    report()
  end

  it(('of the server loses nothing that a log had synced (seed %d)'):format(SEED), function()
    kill_servers('{"type":"log","base_path":"%s","segment_mb":4,"durability":"fsync"}', share(0.3))
  end)

  it(('of the server loses nothing that a log had acknowledged (seed %d)'):format(SEED), function()
    kill_servers('{"type":"log","base_path":"%s","segment_mb":4,"durability":"none"}', share(0.2))
  end)

  it(('of the server loses no file that was stored (seed %d)'):format(SEED), function()
    kill_servers('{"type":"fs","base_path":"%s"}', share(0.2))
  end)

  -- The answer to a listing, once the server trusts its store again.
  local function listed_again()
    local names, count
    assert(server.eventually(ANSWER_S, function()
      names, count = get.objects(running)
      return names
    end), 'the store is up and not asked')
    return names, count
  end

  local function one_request(before)
    local dice = random(10)
    if dice <= 5 then
      store_new(prompts)
    elseif dice <= 8 and #prompts > 0 then
      if random(2) == 1 then workers[1].scheduler:clear(false) end
      verify(prompts[random(#prompts)])
    else
      return get.objects(running) or before
    end
    return before
  end

  -- The server meanwhile serves what it can, and stores again afterwards. Returns what was listed last before.
  local function kill_redis(before)
    kills = kills + 1
    local delay = random(0, KILL_WITHIN_MS)
    local killer = server.kill_after(redis_server.pid, delay)
    local until_s = server.now() + (delay + 15) / 1000
    repeat before = one_request(before) until server.now() > until_s
    server.reap(killer)
    redis_server:kill()
    redis_server:start()
    return before
  end

  local function kill_redis_often(args, keeps, count)
    redis_server = redis.start { args = args }
    launch(('{"type":"redis","path":"%s","breaker":{"cooldown":0.02,"cooldown_max":0.05},"failed_store_pause":0}')
      :format(redis_server.path))
    new_workers()
    while kills < count do
      local before, now, size = {}, nil, nil
      prompts = {}
      redis_server:cli 'FLUSHALL'
      for _ = 1, math.min(ROUNDS_PER_STORE, count - kills) do
        before = kill_redis(before)
        now, size = listed_again()
        if keeps then expect_all(before, now) end
        assert(server.eventually(ANSWER_S, function()
          store_new(prompts)
          before, now = get.objects(running)
          return (now or 0) > size
        end), 'nothing is stored any more')
        workers[1].scheduler:clear(false)
        verify_some(math.min(#prompts, OLD_PER_ROUND))
      end
    end
    assert.is_true(stored > 0 and read > 0, 'nothing was stored or read')
    assert.is_true(running:alive())
    drop_workers()
    assert.equal(0, running:stop())
    report()
  end

  it(('of redis loses nothing that it had synced (seed %d)'):format(SEED), function()
    if redis.missing() then pending(redis.missing()) end
    kill_redis_often({ '--appendonly', 'yes', '--appendfsync', 'always' }, true, share(0.15))
  end)

  it(('of redis without persistence costs misses and nothing else (seed %d)'):format(SEED), function()
    if redis.missing() then pending(redis.missing()) end
    kill_redis_often({}, false, share(0.15))
  end)
end)
