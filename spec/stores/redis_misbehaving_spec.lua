-- SPDX-License-Identifier: MIT
--
-- The Redis store and servers that close in the middle of a reply, answer garbage, slowly, with errors, or send it in
-- circles. Each operation ends with the right code, and the next one is not touched by it.

local driver = require 'spec.support.adapter_driver'
local redis = require 'spec.support.redis'
local scripted = require 'spec.support.scripted'

local key = driver.key
local DEADLINE_MS = 600 -- by which a request was sent, on a busy machine too

describe('redis that misbehaves', function()
  local servers, adapter

  -- A server that answers so, and the store over it.
  local function against(answer, mode)
    local server = scripted.redis(answer, mode)
    servers[#servers + 1] = server
    adapter = assert(redis.open { port = server.port })
  end

  local function load(bytes)
    return (adapter:load(key(1), bytes))
  end

  before_each(function()
    servers = {}
  end)

  after_each(function()
    if adapter then
      adapter:close()
    end
    adapter = nil
    for _, server in ipairs(servers) do
      server.stop()
    end
  end)

  -- A server that answers everything so, and closes.
  local function fails_everything(text)
    against(function(_, connection)
      connection:write(text)
      connection:close()
    end)
    assert.equals('NEAP_EIO', load(5))
    assert.equals('NEAP_EIO', (adapter:lookup(key(1))))
    assert.equals('NEAP_EIO', (adapter:store(key(1), 'hello')))
    assert.equals('NEAP_EIO', adapter:delete(key(1)))
    assert.equals('NEAP_EIO', select(2, adapter:list()))
  end

  local cut = {
    ['before a reply'] = '', ['in a header'] = '$1', ['in a value'] = '$5\r\nhel', ['before the end of a value'] =
      '$5\r\nhello',
  }
  for where, text in pairs(cut) do
    it('by closing ' .. where .. ' fails the operation', function()
      fails_everything(text)
    end)

    it('by closing ' .. where .. ' once is asked again', function()
      against(function(_, connection)
        if connection.number > 1 then
          return '$5\r\nhello\r\n'
        end
        connection:write(text)
        connection:close()
      end)
      assert.same({ 'NEAP_OK', 'hello' }, { adapter:load(key(1), 5) })
    end)
  end

  local garbage = {
    'HTTP/1.1 400 Bad Request\r\n\r\n', '\r\n\r\n', '$five\r\nhello\r\n', '$-7\r\n', '$99999999999999999999\r\n',
    '$5\r\nhelloworld\r\n', '*2\r\n$-3\r\n', ('*1\r\n'):rep(100) .. ':1\r\n', '*9999999999\r\n', ':twelve\r\n',
    ('x'):rep(100000), '+' .. ('x'):rep(100000), '%1\r\n', '\0\0\0\0\r\n',
  }
  for i, text in ipairs(garbage) do
    it(('by answering garbage %d is not believed'):format(i), function()
      fails_everything(text)
    end)
  end

  it('by answering another type fails the operation', function()
    against(function() return '*1\r\n:1\r\n' end)
    assert.equals('NEAP_EIO', load(5))
    assert.equals('NEAP_EIO', (adapter:lookup(key(1))))
    assert.equals('NEAP_EIO', (adapter:store(key(1), 'hello')))
    assert.equals('NEAP_EIO', adapter:delete(key(1)))
    assert.equals('NEAP_EIO', select(2, adapter:list()))
  end)

  it('by saying more than it was asked is understood where the protocol allows it', function()
    against(function() return '>2\r\n+invalidate\r\n*1\r\n+x\r\n|1\r\n+ttl\r\n:3600\r\n$5\r\nhello\r\n' end)
    assert.same({ 'NEAP_OK', 'hello' }, { adapter:load(key(1), 5) })
    assert.same({ 'NEAP_OK', 'hello' }, { adapter:load(key(1), 5) })
  end)

  it('by listing far more at once than it was asked for is listed', function()
    against(function(words)
      if words[1] ~= 'SCAN' then
        return words[1] == 'STRLEN' and ':3\r\n' or ':1\r\n'
      end
      local names = {}
      for n = 1, 5000 do
        names[n] = ('$%d\r\n%s\r\n'):format(#key(n), key(n))
      end
      return ('*2\r\n$1\r\n0\r\n*%d\r\n%s'):format(#names, table.concat(names))
    end)
    local entries, result = adapter:list()
    assert.same({ 'NEAP_OK', 5000 }, { result, #entries })
  end)

  it('by being slow is left alone at the deadline, and its late answer reaches nobody', function()
    against(function(words, connection)
      if connection.number == 1 then
        connection:hang()
      end
      return words[1] == 'GET' and '$5\r\nhello\r\n' or ':1\r\n'
    end)
    local op = adapter:submit('load', { { key = key(1), bytes = 5 } }, DEADLINE_MS):wait()
    assert.equals('NEAP_ETIMEDOUT', op:result())
    assert.same({ 'NEAP_OK', 'hello' }, { adapter:load(key(1), 5) })
  end)

  it('by stopping in the middle of a value is left alone at the deadline', function()
    against(function(_, connection)
      if connection.number > 1 then
        return '$5\r\nhello\r\n'
      end
      connection:write '$5\r\nhe'
      connection:hang()
    end)
    local op = adapter:submit('load', { { key = key(1), bytes = 5 } }, DEADLINE_MS):wait()
    assert.equals('NEAP_ETIMEDOUT', op:result())
    assert.same({ 'NEAP_OK', 'hello' }, { adapter:load(key(1), 5) })
  end)

  it('by not answering a store makes the next question remove what it may have stored', function()
    against(function(words, connection)
      if words[1] == 'SET' then
        connection:hang()
      end
      -- STRLEN tells how often something was removed on this connection
      connection.removed = (connection.removed or 0) + (words[1] == 'UNLINK' and 1 or 0)
      return words[1] == 'STRLEN' and (':%d\r\n'):format(connection.removed) or ':1\r\n'
    end)
    local op = adapter:submit('store', { { key = key(1), data = 'hello' } }, DEADLINE_MS):wait()
    assert.equals('NEAP_ETIMEDOUT', op:result())
    assert.matches('"stores_in_doubt":1', adapter:status())
    assert.same({ 'NEAP_OK', 1 }, { adapter:lookup(key(1)) })
    assert.matches('"stores_in_doubt":0', adapter:status())
  end)

  local errors = {
    ["OOM command not allowed when used memory > 'maxmemory'."] = 'NEAP_ENOSPC',
    ['NOAUTH Authentication required.'] = 'NEAP_EPERM', ['WRONGPASS invalid username-password pair'] = 'NEAP_EPERM',
    ["NOPERM this user has no permissions to run the 'set' command"] = 'NEAP_EPERM',
    ['LOADING Redis is loading the dataset in memory'] = 'NEAP_EIO',
    ["READONLY You can't write against a read only replica."] = 'NEAP_EIO',
    ['MOVED 1 127.0.0.1:1'] = 'NEAP_EIO', ['ASK 1 127.0.0.1:1'] = 'NEAP_EIO', ['MOVED'] = 'NEAP_EIO',
    ['MISCONF Redis is configured to save RDB snapshots'] = 'NEAP_EIO', ['ERR unknown command'] = 'NEAP_EIO',
    ['WRONGTYPE Operation against a key holding the wrong kind of value'] = 'NEAP_ECORRUPT', [''] = 'NEAP_EIO',
  }
  for text, code in pairs(errors) do
    it(('by saying %q is understood'):format(text:match '^%S*'), function()
      against(function() return '-' .. text .. '\r\n' end)
      assert.equals(code, load(5))
      assert.equals(code, (adapter:lookup(key(1))))
      assert.equals(code, (adapter:store(key(1), 'hello')))
      assert.equals(code, adapter:delete(key(1)))
    end)
  end

  describe('as a cluster', function()
    local function bulk(text)
      return ('$%d\r\n%s\r\n'):format(#text, text)
    end

    -- All slots at one port.
    local function slots(port)
      return ('*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n%s:%d\r\n%s'):format(bulk '127.0.0.1', port, bulk(('a'):rep(40)))
    end

    -- A server that says it has all slots.
    local function alone(answer)
      local server = scripted.redis(function(words, connection)
        return words[1] == 'CLUSTER' and slots(connection.port) or answer(words, connection)
      end, 'cluster')
      servers[#servers + 1] = server
      return server
    end

    it('by sending round in circles is given up', function()
      for _, how in ipairs { 'MOVED', 'ASK' } do
        local server = alone(function(_, connection)
          return ('-%s 1 127.0.0.1:%d\r\n'):format(how, connection.port)
        end)
        adapter = assert(redis.open { port = server.port })
        assert.equals('NEAP_EIO', load(5))
        assert.equals('NEAP_EIO', (adapter:store(key(1), 'hello')))
        assert.matches('"redirections":10', adapter:status())
        adapter:close()
        adapter = nil
      end
    end)

    it('by being down for good, or undecided, is given up', function()
      for _, text in ipairs { 'CLUSTERDOWN The cluster is down', 'TRYAGAIN Multiple keys request during rehashing' } do
        local server = alone(function() return '-' .. text .. '\r\n' end)
        adapter = assert(redis.open { port = server.port })
        local op = adapter:submit('load', { { key = key(1), bytes = 5 } }, DEADLINE_MS):wait()
        assert.equals('NEAP_ETIMEDOUT', op:result())
        adapter:close()
        adapter = nil
      end
    end)

    it('by pointing to nowhere is given up', function()
      for _, text in ipairs { 'MOVED 1 127.0.0.1:1', 'MOVED 99999 127.0.0.1:1', 'MOVED 1 x', 'ASK 1 127.0.0.1:1' } do
        local server = alone(function() return '-' .. text .. '\r\n' end)
        adapter = assert(redis.open { port = server.port })
        assert.equals('NEAP_EIO', load(5))
        adapter:close()
        adapter = nil
      end
    end)

    it('by having no slots is not opened', function()
      for _, reply in ipairs { '*0\r\n', ':1\r\n', '*1\r\n*2\r\n:0\r\n:16383\r\n', '*1\r\n*3\r\n:0\r\n:99999\r\n:1\r\n',
        '-ERR no\r\n' } do
        local server = scripted.redis(function() return reply end, 'cluster')
        servers[#servers + 1] = server
        local opened, message = redis.open { port = server.port }
        assert.is_nil(opened)
        assert.matches('^NEAP_EIO', message)
      end
    end)
  end)
end)
