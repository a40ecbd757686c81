-- SPDX-License-Identifier: MIT
--
-- A disk that fills up under a running server: a small tmpfs that holds a fraction of what is stored, or that something
-- else has filled. No request fails, nothing wrong is served, the operator is told once, and when there is room again
-- the server stores again. Needs root, for mounting; in a mount namespace of its own.

local ffi = require 'ffi'
local get = require 'spec.support.http_get'
local server = require 'spec.support.server'
local workload = require 'spec.support.workload'

ffi.cdef [[
int unshare(int flags);
unsigned geteuid(void);
]]

local CLONE_NEWNS = 0x20000
local DISK_MB, PROMPTS, CHUNKS, CHUNK = 24, 150, 4, workload.CHUNK
local CHUNK_BYTES = 128 * 1024
local ANSWER_S = 30

-- What cannot be done here, or nil.
local function missing()
  if ffi.C.geteuid() ~= 0 then return 'mounting needs root' end
  if ffi.C.unshare(CLONE_NEWNS) ~= 0 then return 'no mount namespace' end
  if os.execute 'mount --make-rprivate / 2>/dev/null' ~= 0 then return 'no private mounts' end
  local directory = server.directory()
  local mounted = os.execute(('mount -t tmpfs neap-spec %s && umount %s'):format(directory, directory)) == 0
  server.remove(directory)
  if not mounted then return 'no tmpfs can be mounted' end
end

describe('a full disk', function()
  local why_not = missing()
  if why_not then
    pending(why_not)
    return
  end
  local directory, disk, running, work

  before_each(function()
    directory = server.directory()
    disk = directory .. '/disk'
    assert(os.execute('mkdir ' .. disk) == 0)
    assert(os.execute(('mount -t tmpfs -o size=%dm neap-spec %s'):format(DISK_MB, disk)) == 0)
  end)

  after_each(function()
    if work then work:close() end
    if running then running:discard() end
    work, running = nil, nil
    os.execute('umount -l ' .. disk .. ' 2>/dev/null')
    server.remove(directory)
  end)

  local function start(adapter)
    running = server.start { l1_size_gb = 0.0625, l2 = { (adapter:gsub('DISK', disk)) } }
    work = workload.new(running, { hidden = 128 })
  end

  -- Takes all that is left of the disk, or gives it back.
  local function fill_by_another()
    os.execute(('dd if=/dev/zero of=%s/ballast bs=64k 2>/dev/null'):format(disk))
  end
  local function make_room() assert(os.remove(disk .. '/ballast')) end

  local function said(words)
    local count = 0
    for line in running:output():gmatch '[^\n]+' do
      if line:find(words) then count = count + 1 end
    end
    return count
  end

  local function complaints()
    local lines = {}
    for line in running:output():gmatch '[^\n]+' do
      if line:find ' WARN' or line:find ' ERROR' then lines[#lines + 1] = line end
    end
    return lines
  end

  local function manager() return assert(get.get_json(running, '/status')).storage_manager end
  local function tier() return manager().l2_adapters[1] end

  local function metric(name)
    local _, text = get.get(running, '/metrics')
    return tonumber(text:match('\n' .. name .. '{[^\n]*} (%d+)') or error('no metric ' .. name))
  end

  local function quiet()
    assert(server.eventually(ANSWER_S, function()
      local storer = manager().store_controllers._default
      return storer.pending_keys_count == 0 and storer.in_flight_task_count == 0
    end), 'the stores do not end')
  end

  -- Stores whole prompts and reads some again, wherever they are by now. Every chunk is taken, whatever the disk says.
  local function run_prompts(first, last)
    local hits = 0
    for prompt = first, last do
      assert.equal(CHUNKS, work:store(prompt, CHUNKS * CHUNK))
      work.scheduler:clear(false)
      hits = hits + work:hit_and_verify(math.random(first, prompt), CHUNKS * CHUNK)
    end
    quiet()
    return hits
  end

  -- Chunks that are there when all come from the disk.
  local function restart_and_verify(first, last)
    work:close()
    running:kill()
    for _, name in ipairs(running:segments()) do os.remove('/dev/shm/' .. name) end
    running:restart()
    work = workload.new(running, { hidden = 128 })
    local hits = 0
    for prompt = first, last do hits = hits + work:hit_and_verify(prompt, CHUNKS * CHUNK) end
    assert.equal(0, metric 'neap_l2_quarantined_total')
    return hits
  end

  local SMALL_LOG = '{"type":"log","base_path":"DISK/l2","segment_mb":4,"no_space_pause":0.2%s}'
  local FILES = '{"type":"fs","base_path":"DISK/l2","no_space_pause":0.2%s}'

  -- Several times the disk: the oldest objects make room. The store may complain once.
  local function cycles(adapter, complaints_max)
    start(adapter)
    assert.is_true(PROMPTS * CHUNKS * CHUNK_BYTES > 3 * DISK_MB * 1048576)
    assert.is_true(run_prompts(1, PROMPTS) > 0)
    assert.equal(PROMPTS * CHUNKS, metric 'neap_l2_stored_objects_total')
    assert.equal(0, metric 'neap_l2_no_space_pauses_total')
    local _, listed = get.objects(running)
    local left = restart_and_verify(1, PROMPTS)
    -- Of a prompt that lost its first chunk the others are of no use.
    assert.is_true(left > listed / 2 and left <= listed, ('%d of %d chunks'):format(left, listed))
    assert.is_true(#complaints() <= complaints_max, table.concat(complaints(), '\n'))
  end

  it('makes a log drop its oldest segments', function() cycles(SMALL_LOG:format '', 0) end)

  it('makes a log with a free-space guard drop its oldest segments', function()
    cycles(SMALL_LOG:format ',"min_free_gb":0.004', 0)
  end)

  it('never comes about with max_capacity_gb', function() cycles(FILES:format ',"max_capacity_gb":0.015', 0) end)

  it('makes files go, the oldest first', function() cycles(FILES:format '', 1) end)

  it('leaves nothing half written', function()
    cycles(FILES:format ',"min_free_gb":0', 1)
    assert.same({}, server.files(disk .. '/l2', '.tmp'))
  end)

  -- A pause is shorter than this test may be held up for: the answer is that of the moment after a store that failed.
  -- Stores prompts after this one until then, and returns the last.
  local function pauses(prompt)
    assert(server.eventually(ANSWER_S, function()
      prompt = prompt + 1
      run_prompts(prompt, prompt)
      return tier().neap.store_paused
    end), 'the store does not pause')
    return prompt
  end

  -- Something else has taken all: nothing can be stored, and no room can be made.
  local function hopeless(adapter)
    fill_by_another()
    start(adapter)
    run_prompts(1, 20)
    local number = pauses(20)
    assert.is_true(metric 'neap_l2_no_space_refused_total' > 0)
    assert.is_true(metric 'neap_l2_no_space_pauses_total' > 0)
    assert.equal(1, said 'has no space left')
    -- Besides, the store tells why, once.
    assert.is_true(#complaints() <= 2, table.concat(complaints(), '\n'))
    make_room()
    assert.truthy(server.eventually(ANSWER_S, function()
      number = number + 1
      run_prompts(number, number)
      return metric 'neap_l2_stored_objects_total' > 0
    end), 'nothing is stored although there is room')
    run_prompts(number + 1, number + 5)
    assert.equal(1, said 'has space again')
    assert.equal(1, said 'has no space left')
    assert.is_true(restart_and_verify(number + 1, number + 5) == 5 * CHUNKS)
  end

  it('costs nothing that was stored before where nothing may be evicted', function()
    start(FILES:format ',"eviction":{"eviction_policy":"noop"}')
    run_prompts(1, PROMPTS)
    pauses(PROMPTS)
    local _, listed = get.objects(running)
    assert.equal(listed, metric 'neap_l2_stored_objects_total')
    assert.equal(1, said 'has no space left')
    assert.is_true(#complaints() <= 2, table.concat(complaints(), '\n'))
    local whole = math.floor(listed / CHUNKS)
    assert.is_true(whole > 0)
    for prompt = 1, whole do assert.equal(CHUNKS, work:hit_and_verify(prompt, CHUNKS * CHUNK)) end
    assert.is_true(restart_and_verify(1, PROMPTS) >= whole * CHUNKS)
  end)

  it('is told once, shown, and forgotten when there is room for a log', function() hopeless(SMALL_LOG:format '') end)

  it('is told once, shown, and forgotten when there is room for files', function() hopeless(FILES:format '') end)
end)
