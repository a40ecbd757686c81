-- SPDX-License-Identifier: MIT
--
-- The http store and a real nginx. What servers can do wrong: spec/script/http_spec.lua.

local driver = require 'spec.support.adapter_driver'
local odd = require 'spec.support.odd_server'
local nginx = require 'spec.support.nginx'
local process = require 'spec.support.process'

local PLUGINS = driver.root .. '/adapters'

describe('the http store', function()
  local server, adapter

  setup(function()
    server = nginx.start()
  end)

  teardown(function()
    server:discard()
  end)

  after_each(function()
    if adapter then
      adapter:close()
      adapter = nil
    end
    os.execute(('rm -rf %s/root/kv/*'):format(server.dir))
  end)

  local function open(path, more)
    local message
    adapter, message = driver.open_config(server:config(path, more), PLUGINS)
    assert(adapter, message)
    return adapter
  end

  local function refused(config)
    local handle, message = driver.open_config(config, PLUGINS)
    assert.is_nil(handle)
    return message
  end

  it('keeps objects as files', function()
    open()
    assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1))))
    assert.same({ 'NEAP_OK', 5 }, { adapter:store(driver.key(1), 'first') })
    assert.same({ 'NEAP_OK', 5 }, { adapter:lookup(driver.key(1)) })
    assert.same({ 'NEAP_OK', 'first' }, { adapter:load(driver.key(1), 5) })
    local name = ('demo-SEP-tiny@0x01000100@0@%064x.data'):format(1)
    assert.equals('first', process.read(server.dir .. '/root/kv/' .. name))
    assert.equals('NEAP_OK', adapter:delete(driver.key(1)))
    assert.equals('NEAP_ENOENT', adapter:delete(driver.key(1)))
    assert.equals('NEAP_ENOENT', (adapter:load(driver.key(1), 5)))
  end)

  it('lets the first store win', function()
    open()
    assert.same({ 'NEAP_OK', 5 }, { adapter:store(driver.key(1), 'first') })
    assert.same({ 'NEAP_OK', 0 }, { adapter:store(driver.key(1), 'later') })
    assert.same({ 'NEAP_OK', 'first' }, { adapter:load(driver.key(1), 5) })
    adapter:close()
    open 'there' -- answers 412
    assert.same({ 'NEAP_OK', 0 }, { adapter:store(driver.key(1), 'later') })
  end)

  it('tells a miss from a wrong length', function()
    open()
    adapter:store(driver.key(1), 'four')
    assert.equals('NEAP_ECORRUPT', (adapter:load(driver.key(1), 3)))
    assert.equals('NEAP_ECORRUPT', (adapter:load(driver.key(1), 5)))
    assert.equals('NEAP_ENOENT', (adapter:load(driver.key(2), 5)))
  end)

  it('moves many objects of one operation at once, of every size', function()
    open()
    local items, loads = {}, {}
    for n = 1, 40 do
      items[n] = { key = driver.key(n), data = ('%02d'):format(n):rep(n * n * 100) }
      loads[n] = { key = driver.key(n), bytes = #items[n].data }
    end
    local op = adapter:submit('store', items):wait()
    for n = 1, 40 do
      assert.equals('NEAP_OK', op:result(n))
    end
    op = adapter:submit('load', loads):wait()
    for n = 1, 40 do
      assert.equals('NEAP_OK', op:result(n))
      assert.is_true(op:data(n) == items[n].data)
    end
  end)

  it('keeps names that a URL would not', function()
    open()
    local key = driver.key(1, 'tenant ?#%25 ü')
    assert.equals('NEAP_OK', (adapter:store(key, 'x')))
    assert.same({ 'NEAP_OK', 'x' }, { adapter:load(key, 1) })
    assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1))))
  end)

  describe('that lists', function()
    it('what nginx shows', function()
      open('kv', '"listing": "nginx"')
      local expected = {}
      for n = 1, 100 do
        adapter:store(driver.key(n, n % 2 == 0 and 'even' or nil), ('x'):rep(n))
        expected[driver.key(n, n % 2 == 0 and 'even' or nil)] = n
      end
      os.execute(('touch -d "2024-02-29 12:34:56 UTC" %s/root/kv/*; touch %s/root/kv/foreign; mkdir %s/root/kv/dir')
        :format(server.dir, server.dir, server.dir))
      local entries, result = adapter:list()
      assert.equals('NEAP_OK', result)
      local found = {}
      for _, entry in ipairs(entries) do
        found[entry.key] = entry.bytes
        assert.equals(1709210096, entry.used)
      end
      assert.same(expected, found)
      assert.equals(3, #adapter:list(3))
    end)

    it('nothing when it holds nothing', function()
      open('kv', '"listing": "nginx"')
      assert.same({ {}, 'NEAP_OK' }, { adapter:list() })
    end)

    it('only if it is configured and the server can', function()
      open()
      assert.same({ {}, 'NEAP_ENOTSUP' }, { adapter:list() })
      adapter:close()
      open('small', '"listing": "nginx"')
      assert.same({ {}, 'NEAP_EIO' }, { adapter:list() })
    end)
  end)

  it('says why it cannot store', function()
    for path, result in pairs { small = 'NEAP_ENOSPC', full = 'NEAP_ENOSPC', closed = 'NEAP_EPERM',
      broken = 'NEAP_EIO', none = 'NEAP_EIO' } do
      open(path)
      assert.equals(result, (adapter:store(driver.key(1), 'too long')), path)
      adapter:close()
      adapter = nil
    end
  end)

  it('fails while the server is away, and works when it is back', function()
    open()
    adapter:store(driver.key(1), 'before')
    server:pause()
    assert.equals('NEAP_EIO', (adapter:load(driver.key(1), 6)))
    assert.equals('NEAP_EIO', (adapter:store(driver.key(2), 'lost')))
    server:resume()
    assert.same({ 'NEAP_OK', 'before' }, { adapter:load(driver.key(1), 6) })
    assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(2))))
  end)

  it('takes changed parameters while it works', function()
    open()
    local items = {}
    for n = 1, 30 do
      items[n] = { key = driver.key(n), data = ('x'):rep(100000) }
    end
    local op = adapter:submit('store', items)
    local params = server:config('kv', '"connections": 2, "user": "u", "password": "p", "tls_ca": "", "timeout": 5,' ..
      '"listing": "nginx"')
    assert.equals('NEAP_OK', (adapter:reconfigure(params)))
    op:wait()
    for n = 1, 30 do
      assert.equals('NEAP_OK', op:result(n))
    end
    assert.equals(30, #adapter:list())
  end)

  describe('and a server that misbehaves', function()
    local wrong

    setup(function()
      wrong = odd.start()
    end)

    teardown(function()
      wrong:discard()
    end)

    local function open_wrong(path, timeout)
      local message
      adapter, message = driver.open_config(('{"type": "http", "base_url": "http://127.0.0.1:%s/%s", "timeout": %g}')
        :format(wrong.port, path, timeout), PLUGINS)
      assert(adapter, message)
    end

    it('takes a store back that was sent and canceled, overdue or never answered', function()
      for timeout, result in pairs { [30] = 'NEAP_ECANCELED', [31] = 'NEAP_ETIMEDOUT', [2] = 'NEAP_ETIMEDOUT' } do
        open_wrong('unsaid', timeout)
        local op = adapter:submit('store', { { key = driver.key(1), data = 'data' } }, timeout == 31 and 100 or nil)
        if result == 'NEAP_ECANCELED' then
          driver.eventually(function()
            return adapter:lookup(driver.key(1)) == 'NEAP_OK'
          end)
          op:cancel()
        end
        assert.equals(result, op:wait():result())
        assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1))))
        adapter:close()
        adapter = nil
      end
    end)

    -- Each path answers any method in one wrong way.
    for path, result in pairs {
      cut = 'NEAP_EIO', ['chunk-cut'] = 'NEAP_EIO', none = 'NEAP_EIO', garbage = 'NEAP_EIO', headers = 'NEAP_EIO',
      ['bad-length'] = 'NEAP_EIO', stall = 'NEAP_ETIMEDOUT', silent = 'NEAP_ETIMEDOUT', circle = 'NEAP_EIO',
      endless = 'NEAP_ECORRUPT',
    } do
      it(('fails a load when it answers with %s, and goes on'):format(path), function()
        open_wrong(path, result == 'NEAP_ETIMEDOUT' and 0.3 or 20)
        assert.equals(result, (adapter:load(driver.key(1), 1000)))
        adapter:store(driver.key(1), 'data') -- ends in its own way: some paths answer HEAD well
        assert.not_equals('NEAP_OK', (adapter:load(driver.key(1), 1000)))
      end)
    end
  end)

  it('is refused with a base_url that is none', function()
    assert.matches("base_url is 'nginx/kv', expected http://HOST/PATH/",
      refused '{"type": "http", "base_url": "nginx/kv"}', 1, true)
    assert.matches('base_url', refused '{"type": "http"}', 1, true)
  end)
end)
