-- SPDX-License-Identifier: MIT
--
-- Stores made of stores: what mirror, tier and shard do when one of theirs is down, full, or has other bytes; fault,
-- which makes that happen; and codecs between them.

local driver = require 'spec.support.adapter_driver'

local SHIPPED = driver.root .. '/adapters'
local MOCK = '{"type": "mock", "max_size_gb": 0.01, "mock_bandwidth_gb": 1000}'

describe('a store of stores', function()
  local dir, write, remove, adapter

  before_each(function()
    dir, write, remove = driver.directory()
  end)

  local function close()
    if adapter then
      adapter:close()
      adapter = nil
    end
  end

  after_each(function()
    close()
    os.execute(('rm -rf -- %s/*'):format(dir))
    remove()
  end)

  local function open(json)
    close()
    local message
    adapter, message = driver.open_config((json:gsub('%%s', dir):gsub('MOCK', MOCK)), SHIPPED)
    return adapter, message
  end

  local function fs(name)
    return ('{"type": "fs", "base_path": "%%s/%s"}'):format(name)
  end

  -- An adapter around fs with rules; `rules` is JSON without the outer brackets.
  local function faulty(name, rules, more)
    return ('{"type": "fault", "inner": %s, "rules": [%s]%s}'):format(fs(name), rules, more or '')
  end

  local function combined(type, stores, more)
    return ('{"type": "%s", "stores": [%s]%s}'):format(type, table.concat(stores, ', '), more or '')
  end

  -- What one of the stores below holds, seen by itself.
  local function held_by(name)
    close()
    assert(open(fs(name)))
    local held = {}
    for _, entry in ipairs((adapter:list())) do
      held[entry.key] = entry.bytes
    end
    return held
  end

  local function store_many(count, bytes)
    for n = 1, count do
      assert.equals('NEAP_OK', (adapter:store(driver.key(n), ('%d '):format(n):rep(bytes or 10))))
    end
  end

  local function load(n, bytes)
    local text = ('%d '):format(n):rep(bytes or 10)
    local result, data = adapter:load(driver.key(n), #text)
    return result, data == text
  end

  local DOWN = '{"op": "any", "do": "error"}'

  describe('mirror', function()
    it('keeps every object in each store', function()
      assert(open(combined('mirror', { fs 'a', fs 'b' })))
      store_many(5)
      assert.same(held_by 'a', held_by 'b')
    end)

    it('serves everything while one side is down', function()
      assert(open(combined('mirror', { faulty('a', DOWN), fs 'b' })))
      store_many(3)
      for n = 1, 3 do
        assert.same({ 'NEAP_OK', true }, { load(n) })
        assert.equals('NEAP_OK', (adapter:lookup(driver.key(n))))
      end
      assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(9))))
      assert.matches('"is_healthy":true', adapter:status())
      assert.matches('"last_failure":"EIO"', adapter:status())
    end)

    it('fails a store without a quorum, and takes back what was written', function()
      assert(open(combined('mirror', { fs 'a', faulty('b', DOWN) }, ', "quorum": 2, "rest": 0')))
      assert.equals('NEAP_EIO', (adapter:store(driver.key(1), 'one')))
      assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1))))
      assert.same({}, held_by 'a')
    end)

    it('writes the copies elsewhere when one store is full', function()
      local full = faulty('a', '{"op": "store", "do": "error", "code": "ENOSPC"}')
      assert(open(combined('mirror', { full, fs 'b', fs 'c' }, ', "copies": 2')))
      store_many(2)
      assert.same(held_by 'b', held_by 'c')
      assert.is_not_nil(held_by 'b'[driver.key(1)])
    end)

    it('reads the copy that is whole, and repairs the other if told to', function()
      assert(open(combined('mirror', { fs 'a', fs 'b' })))
      store_many(1)
      close()
      os.execute(('for f in %s/a/*.data; do printf x > "$f"; done'):format(dir))
      assert(open(combined('mirror', { fs 'a', fs 'b' }, ', "repair": true')))
      assert.same({ 'NEAP_OK', true }, { load(1) })
      assert.equals(20, held_by 'a'[driver.key(1)])
    end)

    it('removes from all, and says when it could not', function()
      assert(open(combined('mirror', { fs 'a', fs 'b' })))
      store_many(2)
      assert.equals('NEAP_OK', adapter:delete(driver.key(1)))
      assert.equals('NEAP_ENOENT', adapter:delete(driver.key(1)))
      assert(open(combined('mirror', { fs 'a', faulty('b', '{"op": "delete", "do": "error"}') })))
      assert.equals('NEAP_EIO', adapter:delete(driver.key(2)))
    end)

    it('says which of its stores is configured wrongly', function()
      local _, message = open(combined('mirror', { fs 'a', '{"type": "mokc"}' }))
      assert.matches("stores[1]: unknown L2 adapter type 'mokc'", message:gsub('[Uu]nknown', 'unknown'), 1, true)
      _, message = open(combined('mirror', { fs 'a', '3' }))
      assert.matches('stores[1]: expected the configuration of an adapter', message, 1, true)
      _, message = open(combined('mirror', { fs 'a' }, ', "copies": 2'))
      assert.matches('copies is 2, expected at most the 1 stores', message, 1, true)
      _, message = open(combined('mirror', { fs 'a', fs 'b' }, ', "copies": 1, "quorum": 2'))
      assert.matches('quorum is 2, expected at most the 1 copies', message, 1, true)
    end)
  end)

  describe('tier', function()
    it('finds what a slower store has, and brings it up if told to', function()
      assert(open(fs 'slow'))
      store_many(2)
      assert(open(combined('tier', { fs 'fast', fs 'slow' })))
      assert.same({ 'NEAP_OK', true }, { load(1) })
      assert.same({}, held_by 'fast')
      assert(open(combined('tier', { fs 'fast', fs 'slow' }, ', "promote": true')))
      assert.same({ 'NEAP_OK', true }, { load(1) })
      assert.same({ [driver.key(1)] = 20 }, held_by 'fast')
    end)

    it('writes to the first store that takes it, or to all', function()
      assert(open(combined('tier', { fs 'fast', fs 'slow' })))
      store_many(1)
      assert.same({}, held_by 'slow')
      assert(open(combined('tier', { faulty('fast', DOWN), fs 'slow' })))
      assert.equals('NEAP_OK', (adapter:store(driver.key(2), 'two')))
      assert.same({ [driver.key(2)] = 3 }, held_by 'slow')
      assert(open(combined('tier', { fs 'fast', fs 'slow' }, ', "write": "all"')))
      assert.equals('NEAP_OK', (adapter:store(driver.key(3), 'three')))
      assert.equals(5, held_by 'fast'[driver.key(3)])
      assert.equals(5, held_by 'slow'[driver.key(3)])
    end)

    it('lists an object once', function()
      assert(open(combined('tier', { fs 'fast', fs 'slow' }, ', "write": "all"')))
      store_many(4)
      assert.equals(4, #adapter:list())
      assert.equals(2, #adapter:list(2))
    end)

    it('answers a whole operation from several stores', function()
      assert(open(fs 'slow'))
      store_many(3)
      assert(open(combined('tier', { fs 'fast', fs 'slow' })))
      assert.equals('NEAP_OK', (adapter:store(driver.key(4), '4 4 ')))
      local items = {}
      for n = 1, 5 do
        items[n] = { key = driver.key(n), bytes = n == 4 and 4 or 20 }
      end
      local op = adapter:submit('load', items):wait()
      for n = 1, 5 do
        assert.equals(n == 5 and 'NEAP_ENOENT' or 'NEAP_OK', op:result(n))
      end
      assert.equals('4 4 ', op:data(4))
      assert.equals(('3 '):rep(10), op:data(3))
    end)
  end)

  describe('shard', function()
    it('spreads objects evenly, each to one store', function()
      assert(open(combined('shard', { 'MOCK', 'MOCK', 'MOCK' })))
      local items = {}
      for n = 1, 300 do
        items[n] = { key = ('demo/tiny@01000100@0@%08x%056x'):format(n * 2654435761 % 2 ^ 32, n), data = 'x' }
      end
      local op = adapter:submit('store', items):wait()
      for n = 1, 300 do
        assert.equals('NEAP_OK', op:result(n))
      end
      local count = 0
      for objects in adapter:status():gmatch '"objects":(%d+)' do
        count = count + 1
        assert.is_true(tonumber(objects) > 60 and tonumber(objects) < 140, objects)
      end
      assert.equals(3, count)
    end)

    it('moves only what a new store takes', function()
      local names = ', "names": ["a", "b", "c"]'
      assert(open(combined('shard', { fs 'a', fs 'b', fs 'c' }, names)))
      store_many(30)
      close()
      -- the same three in another order, and a fourth
      local _, message = open(combined('shard', { fs 'c', fs 'd', fs 'a', fs 'b' }, ', "names": ["c", "d", "a", "b"]'))
      assert(adapter, message)
      local lost = 0
      for n = 1, 30 do
        lost = lost + (adapter:lookup(driver.key(n)) == 'NEAP_OK' and 0 or 1)
      end
      assert.is_true(lost > 0 and lost < 20, lost) -- a quarter of them, about
    end)

    it('fails only what the store that is down has', function()
      assert(open(combined('shard', { faulty('a', DOWN), fs 'b' })))
      local failed = 0
      for n = 1, 20 do
        failed = failed + (adapter:store(driver.key(n), 'x') == 'NEAP_EIO' and 1 or 0)
      end
      assert.is_true(failed > 2 and failed < 18, failed)
      assert.matches('"is_healthy":true', adapter:status()) -- rest is 0: each operation tries
    end)

    it('wants one name for each store', function()
      local _, message = open(combined('shard', { fs 'a', fs 'b' }, ', "names": ["a"]'))
      assert.matches('names has 1 items, expected one for each of the 2 stores', message, 1, true)
      _, message = open(combined('shard', { fs 'a', fs 'b' }, ', "names": ["a", "a"]'))
      assert.matches('names[1] is a, expected a string that no other store has', message, 1, true)
    end)
  end)

  describe('fault', function()
    it('acts on each n-th object, after some, a number of times', function()
      assert(open(faulty('a', '{"op": "store", "do": "error", "code": "ENOSPC", "after": 2, "every": 3, "times": 2}')))
      local results = {}
      for n = 1, 14 do
        results[n] = adapter:store(driver.key(n), 'x') == 'NEAP_ENOSPC' and n or nil
      end
      assert.same({ [5] = 5, [8] = 8 }, results)
      assert.matches('"error":2', adapter:status())
    end)

    it('flips bits and cuts short, and a checksum notices', function()
      for _, deed in ipairs { 'flip', 'short' } do
        for _, op in ipairs { 'load', 'store' } do
          local json = faulty(deed .. op, ('{"op": "%s", "do": "%s"}'):format(op, deed))
          assert(open(json))
          store_many(1, 100)
          local result, same = load(1, 100)
          assert.is_false(result == 'NEAP_OK' and same)
          assert(open(('{"type": "checksum", "inner": %s}'):format(json)))
          store_many(2, 100)
          assert.equals('NEAP_ECORRUPT', (load(2, 100)))
        end
      end
    end)

    it('fails all for a while after a disconnect', function()
      assert(open(faulty('a', '{"op": "lookup", "do": "disconnect", "times": 1, "seconds": 0.05}')))
      assert.equals('NEAP_EIO', (adapter:lookup(driver.key(1))))
      assert.equals('NEAP_EIO', (adapter:store(driver.key(1), 'x')))
      driver.eventually(function() return adapter:store(driver.key(1), 'x') == 'NEAP_OK' end)
    end)

    it('hangs until it is canceled', function()
      assert(open(faulty('a', '{"op": "load", "do": "hang"}, {"op": "lookup", "do": "delay", "seconds": 0.001}')))
      store_many(1)
      local op = adapter:submit('load', { { key = driver.key(1), bytes = 20 } })
      assert.equals('NEAP_OK', (adapter:lookup(driver.key(1)))) -- others go on
      assert.is_false(op:ended())
      op:cancel()
      assert.equals('NEAP_ECANCELED', op:wait():result())
    end)

    it('misses what is there', function()
      assert(open(faulty('a', '{"op": "lookup", "do": "miss"}')))
      store_many(1)
      assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(1))))
      assert.same({ 'NEAP_OK', true }, { load(1) })
    end)

    it('fails in the same way with the same seed', function()
      local seen = {}
      for run = 1, 2 do
        assert(open(faulty('run' .. run, '{"op": "store", "do": "error", "rate": 0.3}', ', "seed": 11')))
        seen[run] = {}
        for n = 1, 40 do
          seen[run][n] = adapter:store(driver.key(n), 'x')
        end
      end
      assert.same(seen[1], seen[2])
      local text = table.concat(seen[1])
      assert.is_true(text:find 'NEAP_EIO' ~= nil and text:find 'NEAP_OK' ~= nil)
    end)

    it("drops loads as LMCache's fault_inject does", function()
      local function loaded(more, count)
        assert(open(('{"type": "fault_inject", "inner": %s%s}'):format(fs 'a', more)))
        local items, results = {}, {}
        for n = 1, count do
          assert.equals('NEAP_OK', (adapter:store(driver.key(n), 'x')))
          items[n] = { key = driver.key(n), bytes = 1 }
        end
        local lookup, op = adapter:submit('lookup', items):wait(), adapter:submit('load', items):wait()
        for n = 1, count do
          assert.equals('NEAP_OK', lookup:result(n))
          results[n] = op:result(n) == 'NEAP_OK' and '.' or 'x'
        end
        return table.concat(results)
      end
      assert.equals('x..x.', loaded(', "gap_indices": [0, 3]', 5))
      assert.equals('x.x.x', loaded(', "gap_tail_ratios": [0, 0.5, 1]', 5))
      assert.equals('x...', loaded(', "gap_tail_ratios": [0.9]', 4))
      assert.equals('..x.', loaded(', "gap_tail_ratios": [0.5]', 4)) -- halves are rounded to the even place
      assert.equals('xxxx', loaded(', "rate": 1', 4))
      assert.equals('....', loaded(', "rate": 0', 4))
    end)

    it('says what is wrong with a rule', function()
      for rule, expected in pairs {
        ['3'] = 'rules[0] is a number, expected an object',
        ['{"do": "flip"}'] = "rules[0].op is 'nil', expected load, store, lookup, delete or any",
        ['{"op": "load", "do": "flop"}'] = "rules[0].do is 'flop', expected error, miss, delay, hang, flip, short",
        ['{"op": "load", "do": "flip", "every": 0}'] = 'rules[0].every is 0, expected a number of at least 1',
        ['{"op": "load", "do": "flip", "evry": 2}'] = 'rules[0].evry is not known',
      } do
        local _, message = open(faulty('a', rule))
        assert.matches(expected, message, 1, true)
      end
      local _, message = open(faulty('a', '', ', "gap_tail_ratios": [1.5]'))
      assert.matches('gap_tail_ratios[0] is 1.5, expected a number from 0 to 1', message, 1, true)
      _, message = open '{"type": "fault", "inner": {"type": "fs"}}'
      assert.matches('inner: base_path must be a non-empty string', message, 1, true)
    end)
  end)

  it('may be nested in any order', function()
    write('keys', ('3 %064x\n'):format(99))
    os.execute(('chmod 600 -- %s/keys'):format(dir))
    local sealed = ('{"type": "seal", "key_file": "%%s/keys", "inner": %s}'):format(fs 'a')
    local packed = ('{"type": "compress", "level": 1, "inner": %s}'):format(combined('shard', { fs 'b', fs 'c' }))
    assert(open(combined('mirror', { sealed, combined('tier', { packed, 'MOCK' }) })))
    store_many(10, 1000)
    for n = 1, 10 do
      assert.same({ 'NEAP_OK', true }, { load(n, 1000) })
    end
    assert.matches('"ratio":', adapter:status())
    local bytes = 0
    for _, name in ipairs { 'b', 'c' } do
      for _, size in pairs(held_by(name)) do
        bytes = bytes + size
      end
    end
    assert.is_true(bytes > 0 and bytes < 10 * 200, bytes)
  end)
end)
