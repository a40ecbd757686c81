-- SPDX-License-Identifier: MIT
--
-- The Redis store against real servers: over TCP, a unix socket, TLS, in both versions of the protocol, and a cluster.

local contract = require 'spec.support.contract'
local driver = require 'spec.support.adapter_driver'
local redis = require 'spec.support.redis'
local process = require 'spec.support.server'

local key = driver.key

if redis.missing() then
  pending('the Redis store: ' .. redis.missing())
  return
end

-- The result of f, and at the end of the block what close does with it; started once for all specs of the block.
local function once(start)
  local made
  lazy_setup(function()
    made = start()
  end)
  lazy_teardown(function()
    made:discard()
  end)
  return function()
    return made
  end
end

describe('redis', function()
  local server = once(redis.start)
  local adapter

  local function open(params)
    params = params or {}
    params.path = server().path
    adapter = assert(redis.open(params))
    return adapter
  end

  after_each(function()
    if adapter then
      adapter:close()
    end
    adapter = nil
    server():cli 'FLUSHALL'
  end)

  describe('over a unix socket', function()
    contract(function()
      server():cli 'FLUSHALL'
      return assert(redis.open { path = server().path })
    end)
  end)

  describe('over TCP', function()
    contract(function()
      server():cli 'FLUSHALL'
      return assert(redis.open { port = server().port })
    end)
  end)

  describe('in version 2 of the protocol', function()
    contract(function()
      server():cli 'FLUSHALL'
      return assert(redis.open { path = server().path, protocol = 2 })
    end)
  end)

  describe("under LMCache's name", function()
    contract(function()
      server():cli 'FLUSHALL'
      return assert(redis.open { type = 'resp', host = '127.0.0.1', port = server().port })
    end)

    it('knows its parameters and refuses others', function()
      local _, message = redis.open { type = 'resp', host = '127.0.0.1' }
      assert.matches('port', message)
      _, message = redis.open { type = 'resp', host = '127.0.0.1', port = server().port, num_worker = 2 }
      assert.matches('num_worker', message)
    end)
  end)

  it("has LMCache's names and bytes", function()
    open():store(key(1, 'alice'), 'payload')
    assert.equals('payload', server():cli('GET', key(1, 'alice')))
    server():cli('SET', key(2), 'from elsewhere')
    assert.same({ 'NEAP_OK', 14 }, { adapter:lookup(key(2)) })
    assert.same({ 'NEAP_OK', 'from elsewhere' }, { adapter:load(key(2), 14) })
  end)

  it('carries values of any size in one operation', function()
    local items = {}
    for n, bytes in ipairs { 1, 65535, 65536, 65537, 1048576, 5000000, 3, 12345678 } do
      items[n] = { key = key(n), data = (('%d,'):format(n)):rep(bytes):sub(1, bytes), bytes = bytes }
    end
    local stored = open():submit('store', items):wait()
    local loaded = adapter:submit('load', items):wait()
    for n, item in ipairs(items) do
      assert.same({ 'NEAP_OK', item.bytes, 'NEAP_OK' }, { stored:result(n), stored:stored(n), loaded:result(n) })
      assert.is_true(loaded:data(n) == item.data)
    end
  end)

  it('goes on with the other objects when one has another length', function()
    local items = {}
    for n = 1, 9 do
      items[n] = { key = key(n), bytes = 8 }
      server():cli('SET', key(n), n == 5 and 'too long for it' or '12345678')
    end
    server():cli('SETRANGE', key(7), 3000000, 'far too long')
    local op = open():submit('load', items):wait()
    for n = 1, 9 do
      assert.equals((n == 5 or n == 7) and 'NEAP_ECORRUPT' or 'NEAP_OK', op:result(n))
    end
  end)

  it('calls a value of another type corrupt', function()
    server():cli('LPUSH', key(1), 'a', 'b')
    assert.equals('NEAP_ECORRUPT', (open():load(key(1), 2)))
    assert.equals('NEAP_ECORRUPT', (adapter:lookup(key(1))))
  end)

  it('lets objects expire after the ttl', function()
    open { ttl = 100 }:store(key(1), 'x')
    local left = tonumber(server():cli('PTTL', key(1)))
    assert.is_true(left > 90000 and left <= 100000, left)
  end)

  it('keeps to its database and its prefix', function()
    open { database = 3, key_prefix = 'site[1]' }:store(key(1), 'mine')
    assert.equals('mine', server():cli('-n', 3, 'GET', 'site[1]@' .. key(1)))
    server():cli('-n', 3, 'SET', key(2), 'not mine')
    server():cli('-n', 3, 'SET', 'site1@' .. key(3), 'not mine')
    assert.same({ { key = key(1), bytes = 4 } }, { { key = adapter:list()[1].key, bytes = adapter:list()[1].bytes } })
    assert.equals(1, #adapter:list())
  end)

  it('lists more than a page, and only what is an object', function()
    local script = "for n = 1, 1700 do redis.call('SET', string.format('demo/tiny@01000100@0@%064x', n), 'abc') end"
    server():cli('EVAL', script, 0)
    server():cli('SET', 'something', 'else')
    server():cli('SET', ('y'):rep(70000), 'else')
    server():cli('LPUSH', key(5000), 'else')
    local entries, result = open():list()
    local seen = {}
    for _, entry in ipairs(entries) do
      assert.equals(3, entry.bytes)
      assert.is_true(math.abs(entry.used - os.time()) < 60)
      seen[entry.key] = true
    end
    local count = 0
    for _ in pairs(seen) do
      count = count + 1
    end
    assert.same({ 'NEAP_OK', 1700 }, { result, count })
  end)

  it('refuses parameters that make no sense, by name', function()
    local cases = {
      { { key_prefix = 'a@b' }, "key_prefix is 'a@b'" }, { { path = 'relative' }, "path is 'relative'" },
      { { path = '/x', tls = true }, 'tls is true with a unix socket' },
      { { username = 'bob' }, 'password is missing for username bob' },
      { { tls_cert = '/x' }, 'tls_cert and tls_private_key belong together' },
      { { protocol = 4 }, 'protocol' }, { { conections = 4 }, 'connections' }, { { nodes = { 'x' } }, 'nodes%[1%]' },
    }
    for _, case in ipairs(cases) do
      local opened, message = redis.open(case[1])
      assert.is_nil(opened)
      assert.matches(case[2], message)
    end
  end)

  it('does not open without a server', function()
    local opened, message = redis.open { port = process.free_port() }
    assert.is_nil(opened)
    assert.matches('127.0.0.1:%d+', message)
  end)
end)

describe('redis with a password', function()
  local server = once(function() return redis.start { password = 'open sesame' } end)

  contract(function()
    server():cli 'FLUSHALL'
    return assert(redis.open { path = server().path, password = 'open sesame' })
  end)

  it('tells who may not come in', function()
    for _, protocol in ipairs { 2, 3 } do
      for _, password in ipairs { '', 'wrong' } do
        local opened, message = redis.open { path = server().path, password = password, protocol = protocol }
        assert.is_nil(opened)
        assert.matches('^NEAP_EPERM', message)
      end
    end
  end)

  it('logs in by name', function()
    server():cli('ACL', 'SETUSER', 'bob', 'on', '>builder', '~*', '+@all', '-client')
    for _, protocol in ipairs { 2, 3 } do
      local adapter = assert(redis.open { path = server().path, username = 'bob', password = 'builder',
        protocol = protocol })
      assert.equals('NEAP_OK', (adapter:store(key(protocol), 'x')))
      adapter:close()
    end
  end)

  it('calls what is forbidden so', function()
    server():cli('ACL', 'SETUSER', 'eve', 'on', '>drops', '~*', '+@all', '-set')
    local adapter = assert(redis.open { path = server().path, username = 'eve', password = 'drops' })
    assert.equals('NEAP_EPERM', (adapter:store(key(1), 'x')))
    adapter:close()
  end)
end)

describe('redis over TLS', function()
  local server = once(function() return redis.start { tls = true } end)

  contract(function()
    server():cli 'FLUSHALL'
    return assert(redis.open { port = server().port, tls = true, tls_ca = server().directory .. '/cert.pem' })
  end)

  it('does not trust a certificate that it was not told to', function()
    local opened, message = redis.open { port = server().port, tls = true }
    assert.is_nil(opened)
    assert.matches('certificate', message)
  end)
end)

describe('a full redis', function()
  local server = once(redis.start)
  local adapter

  local function fill()
    server():cli 'FLUSHALL'
    local items = {}
    for n = 1, 16 do
      items[n] = { key = key(n), data = ('x'):rep(1048576) }
    end
    adapter = assert(redis.open { path = server().path })
    return adapter:submit('store', items):wait()
  end

  after_each(function()
    adapter:close()
  end)

  it('has no space where it may not evict', function()
    server():cli('CONFIG', 'SET', 'maxmemory', '8mb', 'maxmemory-policy', 'noeviction')
    local op, refused = fill(), 0
    for n = 1, 16 do
      local full = op:result(n) == 'NEAP_ENOSPC'
      refused = refused + (full and 1 or 0)
      assert.equals(full and 'NEAP_ENOSPC' or 'NEAP_OK', op:result(n))
      assert.equals(full and 'NEAP_ENOENT' or 'NEAP_OK', (adapter:lookup(key(n))))
    end
    assert.is_true(refused > 0 and refused < 16)
  end)

  it('forgets what it evicted', function()
    server():cli('CONFIG', 'SET', 'maxmemory', '12mb', 'maxmemory-policy', 'allkeys-lru')
    local op, there = fill(), 0
    for n = 1, 16 do
      assert.equals('NEAP_OK', op:result(n))
      there = there + (adapter:lookup(key(n)) == 'NEAP_OK' and 1 or 0)
    end
    assert.is_true(there > 0 and there < 16)
  end)
end)

describe('a redis that is killed', function()
  local rounds = os.getenv 'NEAP_SLOW' and 100 or 4
  local server

  before_each(function()
    -- everysec would put a write off for seconds, behind its reply, while the disk is slow
    server = redis.start { args = { '--appendonly', 'yes', '--appendfsync', 'no' } }
  end)

  after_each(function()
    server:discard()
  end)

  -- What the store says afterwards about a value that was to be stored.
  local function check(adapter, n, data, stored)
    local result, bytes = adapter:lookup(key(n))
    if stored == 'NEAP_OK' then
      assert.same({ 'NEAP_OK', #data }, { result, bytes }) -- the append-only file is in the kernel's hands
    else
      assert.equals('NEAP_ENOENT', result)
      assert.same({ 'NEAP_OK', #data }, { adapter:store(key(n), data) })
    end
    local loaded, back = adapter:load(key(n), #data)
    assert.equals('NEAP_OK', loaded)
    assert.is_true(back == data)
  end

  it('in the middle of writes serves no wrong byte, and is used again when it is back', function()
    local adapter = assert(redis.open { path = server.path })
    local n = 0
    for round = 1, rounds do
      local ops, data = {}, {}
      for i = 1, 12 do
        data[i] = ('%d/%d '):format(round, i):rep(100000)
        ops[i] = adapter:submit('store', { { key = key(n + i), data = data[i] } })
      end
      driver.eventually(function() return ops[1 + round % 12]:ended() end)
      server:kill()
      for i = 1, 12 do
        ops[i]:wait()
      end
      server:start()
      for i = 1, 12 do
        check(adapter, n + i, data[i], ops[i]:result())
      end
      n = n + 12
    end
    adapter:close()
  end)
end)
