-- SPDX-License-Identifier: MIT
--
-- What no client should send. Whatever it is, the server answers the next request and has lost nothing.

local client = require 'examples.worker.client'
local msgpack = require 'examples.worker.msgpack'
local replay = require 'spec.support.replay'
local server = require 'spec.support.server'
local workload = require 'spec.support.workload'
local zmq = require 'examples.worker.zmq'

local SEED = tonumber(os.getenv 'NEAP_SEED' or os.time() % 100000)
local OPS = client.OPS

describe('after bad input the server goes on:', function()
  local running, load, raw

  before_each(function()
    running = server.start {}
    load = workload.new(running)
    assert.equal(2, load:store(1, 600))
    raw = zmq.dealer(running.endpoint)
    math.randomseed(SEED)
  end)

  after_each(function()
    if running then running:discard() end
    if load then load:close() end
    if raw then raw:close() end
    running, load, raw = nil, nil, nil
  end)

  -- The connection that sent it is still served, and so are the others. Returns how many answers came before.
  local function serves_on()
    raw:send { '\xcd\xff\xff', msgpack.encode(OPS.noop) }
    local answers = -1
    local reply
    repeat
      answers = answers + 1
      reply = assert(raw:receive(20000), 'no answer on the same connection:\n' .. running:output():sub(-2000))
    until reply[1] == '\xcd\xff\xff'
    assert.equal('OK', msgpack.decode(reply[3]))
    assert.equal(2, load:hit_and_verify(1, 600))
    return answers
  end

  local function finish()
    assert.equal(0, running:stop(), running:output():sub(-2000))
    assert.same({}, running:segments())
  end

  local function request(op, ...)
    local frames = { '\x01', msgpack.encode(OPS[op] or op) }
    for i = 1, select('#', ...) do frames[i + 2] = msgpack.encode((select(i, ...))) end
    return frames
  end

  it('messages of one frame, of empty frames, of very many frames', function()
    raw:send { 'x' }
    raw:send { '' }
    serves_on()
    raw:send { '', '' }
    raw:send { '', '', '', '' }
    raw:send { '\x00', '' }
    serves_on()
    local many = { '\x01', '\x08' }
    for i = 3, 1000 do many[i] = '\x01' end
    raw:send(many)
    serves_on()
    finish()
  end)

  it(('random frames (seed %d)'):format(SEED), function()
    for _ = 1, 500 do
      local frames = {}
      for i = 1, math.random(6) do
        local bytes = {}
        for b = 1, math.random(0, 40) do bytes[b] = string.char(math.random(0, 255)) end
        frames[i] = table.concat(bytes)
      end
      if math.random(2) == 1 then frames[2] = string.char(math.random(0, 40)) end
      -- Good requests that change what is found: clear, and the ping of a worker that has to register first.
      local op = frames[2]
      if op ~= string.char(OPS.clear) and op ~= string.char(OPS.ping) then raw:send(frames) end
    end
    serves_on()
    finish()
  end)

  it(('a lookup cut short at every byte, and with every byte changed (seed %d)'):format(SEED), function()
    local recorded
    for _, line in ipairs(replay.load '02_cold_272') do
      if line.op == 'lookup' and line.from == 'c2s' then recorded = line.frames end
    end
    for cut = 0, #recorded[3] - 1 do raw:send { recorded[1], recorded[2], recorded[3]:sub(1, cut), recorded[4] } end
    assert.equal(#recorded[3], serves_on())
    for at = 1, #recorded[3] do
      local changed = recorded[3]:sub(1, at - 1) .. string.char(math.random(0, 255)) .. recorded[3]:sub(at + 1)
      raw:send { recorded[1], recorded[2], changed, recorded[4] }
    end
    assert.equal(#recorded[3], serves_on())
    finish()
  end)

  it('a frame of 70 MB, of zeros and of nested arrays', function()
    raw:send { '\x01', '\x08', ('\0'):rep(70 * 2 ^ 20), '\x01' }
    serves_on()
    raw:send { '\x01', '\x08', ('\x91'):rep(70 * 2 ^ 20), '\x01' }
    serves_on()
    finish()
  end)

  it('lengths that promise more than there is', function()
    for _, first in ipairs { '\xdd', '\xdf', '\xdb', '\xc6' } do
      local head = first .. '\xff\xff\xff\xff'
      raw:send { '\x01', '\x08', head, '\x01' }
      raw:send { '\x01', head, '\x01' }
      raw:send { head, '\x08', '\x01' }
    end
    serves_on()
    finish()
  end)

  it('operations that do not exist, and known ones with the wrong number of arguments', function()
    for _, op in ipairs { 999, -1, 'no_such_operation', msgpack.null, true, msgpack.map {}, 11 } do
      raw:send(request(op))
    end
    for name in pairs(OPS) do
      for arguments = 0, 4 do
        local frames = request(name)
        for i = 1, arguments do frames[2 + i] = '\x00' end
        if not (name == 'clear' and arguments == 1) then raw:send(frames) end
      end
    end
    serves_on()
    finish()
  end)

  it('a worker that never registered gets neutral answers', function()
    local key = load:key(2, 600)
    local stranger = running:connect()
    stranger.instance_id = 2 ^ 40
    assert.same({}, (stranger:prepare_store(key)))
    assert.is_false(stranger:commit_store(key))
    assert.is_false((stranger:prepare_retrieve(key)))
    assert.is_true(stranger:commit_retrieve(key))
    stranger:unregister()
    stranger:close()
    serves_on()
    finish()
  end)

  -- Every way of spoiling one field of a key; each must be answered, and neither found nor stored.
  local function refuses_keys(spoilt)
    for _, fields in ipairs(spoilt) do
      local key = load:key(3, 600)
      for name, value in pairs(fields) do key[name] = value end
      local shown = replay.show(msgpack.map(fields)):sub(1, 100)
      load.scheduler:lookup(client.for_all_workers(key))
      assert.equal(0, load.scheduler:status(key.request_id), 'lookup with ' .. shown)
      assert.same({}, (load.worker:prepare_store(key)), 'prepare_store with ' .. shown)
      assert.is_false(load.worker:commit_store(key), 'commit_store with ' .. shown)
      assert.is_false((load.worker:prepare_retrieve(key)), 'prepare_retrieve with ' .. shown)
      load.worker:commit_retrieve(key)
      load.scheduler:free(client.for_all_workers(key))
      load.scheduler:end_session(key.request_id)
    end
    serves_on()
    finish()
  end

  it('tokens out of range', function()
    local function tokens(value)
      local list = {}
      for i = 1, 600 do list[i] = i end
      list[100] = value
      return { token_ids = list }
    end
    refuses_keys {
      tokens(-1), tokens(2 ^ 32), tokens(2ULL ^ 63), tokens 'a', tokens(msgpack.float(1.5)), tokens(msgpack.null),
    }
  end)

  it('tenants with forbidden characters', function()
    refuses_keys {
      { cache_salt = 'a@b' }, { cache_salt = 'a/b' }, { cache_salt = 'a\\b' }, { cache_salt = 'a\0b' },
      { cache_salt = ('s'):rep(129) }, { cache_salt = 7 },
    }
  end)

  it('ranges and shards that make no sense', function()
    refuses_keys {
      { start = -256 }, { start = 2 ^ 40, ['end'] = 2 ^ 41 }, { ['end'] = -1 }, { start = 512, ['end'] = 256 },
      { world_size = 0 }, { world_size = -1 }, { world_size = 2 ^ 31 }, { world_size = 2ULL ^ 63 },
      { model_name = '' }, { model_name = ('m'):rep(5000) }, { model_name = 'no@model' }, { model_name = 'unknown' },
    }
  end)

  it('registrations with absurd layouts', function()
    for _, fields in ipairs {
      { num_layers = 0 }, { num_layers = 2 ^ 40 }, { hidden_dim_size = 0 }, { hidden_dim_size = 2 ^ 40 },
      { num_layers = 2 ^ 31, hidden_dim_size = 2 ^ 31 }, { dtype_str = 'no_such_type' }, { world_size = 0 },
      { num_physical_slots = 0 }, { block_size = -1 }, { model_name = 'a@b' }, { model_name = ('m'):rep(5000) },
    } do
      local payload = { instance_id = 77 }
      for name, value in pairs(load.layout) do payload[name] = value end
      for name, value in pairs(fields) do payload[name] = value end
      raw:send(request('register_kv_cache_engine_driven_context', payload))
    end
    serves_on()
    finish()
  end)

  it('lookups without readers, with very many, and told twice', function()
    for _, readers in ipairs { 0, -1, 65536, 2 ^ 40 } do
      local key = client.for_all_workers(load:key(1, 600))
      key.num_kv_readers = readers
      load.scheduler:lookup(key)
      assert.truthy(load.scheduler:status(key.request_id))
      load.scheduler:end_session(key.request_id)
    end
    local key = client.for_all_workers(load:key(1, 600))
    for _ = 1, 100 do load.scheduler:lookup(key) end
    assert.equal(2, load.scheduler:status(key.request_id))
    load.scheduler:end_session(key.request_id)
    load.scheduler:clear(false)
    assert.equal(0, load:hit(1, 600))
    assert.equal(2, load:store(1, 600))
    serves_on()
    finish()
  end)
end)
