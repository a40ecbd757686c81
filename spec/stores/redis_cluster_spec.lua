-- SPDX-License-Identifier: MIT
--
-- The Redis store over a real cluster of three masters with a replica each: where keys go, slots that move, nodes that
-- die.

local contract = require 'spec.support.contract'
local driver = require 'spec.support.adapter_driver'
local redis = require 'spec.support.redis'
local process = require 'spec.support.server'

local key = driver.key

if redis.missing() then
  pending('the Redis store over a cluster: ' .. redis.missing())
  return
end

describe('a redis cluster', function()
  local cluster, adapter

  local function open(params)
    params = params or {}
    params.port = params.port or cluster.nodes[1].port
    adapter = assert(redis.open(params))
    return adapter
  end

  local function flush()
    for _, node in ipairs(cluster.nodes) do
      node:cli 'FLUSHALL' -- replicas refuse it and follow
    end
    cluster:replicate() -- or loads from replicas see what the spec before this one stored
  end

  local function items(count)
    local list = {}
    for n = 1, count do
      list[n] = { key = key(n), data = ('%d '):format(n):rep(1000), bytes = #('%d '):format(n) * 1000 }
    end
    return list
  end

  local function all_ok(op, count)
    for n = 1, count do
      assert.equals('NEAP_OK', op:result(n))
      assert.is_true(op:data(n) == op.items[n].data)
    end
  end

  local function slot_of(name)
    return tonumber(cluster:cli('CLUSTER', 'KEYSLOT', name))
  end

  local function owns(node, slot)
    local ranges = node:cli('CLUSTER', 'NODES'):match '[^\n]*myself,master[^\n]* connected([^\n]*)'
    for first, last in (ranges or ''):gmatch ' (%d+)%-?(%d*)' do
      if tonumber(first) <= slot and slot <= tonumber(last ~= '' and last or first) then
        return true
      end
    end
    return false
  end

  -- The master of a slot, and another one.
  local function masters_for(slot)
    local of, other
    for _, node in ipairs(cluster.nodes) do
      if owns(node, slot) then
        of = node
      elseif node:cli('ROLE'):find '^master' then
        other = node
      end
    end
    return of, other
  end

  local function id(node)
    return node:cli('CLUSTER', 'MYID')
  end

  lazy_setup(function()
    cluster = redis.start_cluster()
  end)

  lazy_teardown(function()
    cluster:discard()
  end)

  before_each(flush)

  after_each(function()
    if adapter then
      adapter:close()
    end
    adapter = nil
  end)

  describe('as a store', function()
    contract(function()
      return assert(redis.open { port = cluster.nodes[1].port })
    end)
  end)

  describe('with loads from replicas', function()
    contract(function()
      return assert(redis.open { port = cluster.nodes[1].port, replica_reads = true })
    end)
  end)

  it('spreads one operation over its masters', function()
    all_ok(open():submit('store', items(60)):wait(), 60)
    for _, node in ipairs(cluster.nodes) do
      assert.is_true(tonumber(node:cli 'DBSIZE') > 0 or not node:cli('ROLE'):find '^master')
    end
    all_ok(adapter:submit('load', items(60)):wait(), 60)
    assert.equals(60, #adapter:list())
    assert.matches('"mode":"cluster"', adapter:status())
  end)

  it('reads from replicas when told to', function()
    open { replica_reads = true }:submit('store', items(30)):wait()
    local function reads(node)
      return tonumber(node:cli('INFO', 'commandstats'):match 'cmdstat_get:calls=(%d+)') or 0
    end
    local before = {}
    for i, node in ipairs(cluster.nodes) do
      before[i] = reads(node)
    end
    all_ok(adapter:submit('load', items(30)):wait(), 30)
    local by_replicas = 0
    for i, node in ipairs(cluster.nodes) do
      if node:cli('ROLE'):find '^slave' then
        by_replicas = by_replicas + reads(node) - before[i]
      end
    end
    assert.equals(30, by_replicas)
  end)

  it('finds a slot that is being moved, and one that was', function()
    local slot = slot_of(key(1))
    local from, to = masters_for(slot)
    open():store(key(1), 'before')
    to:cli('CLUSTER', 'SETSLOT', slot, 'IMPORTING', id(from))
    from:cli('CLUSTER', 'SETSLOT', slot, 'MIGRATING', id(to))
    assert.same({ 'NEAP_OK', 'before' }, { adapter:load(key(1), 6) }) -- still there
    from:cli('MIGRATE', '127.0.0.1', to.port, key(1), 0, 5000)
    assert.same({ 'NEAP_OK', 'before' }, { adapter:load(key(1), 6) }) -- ASK
    assert.equals('NEAP_OK', adapter:delete(key(1)))
    assert.same({ 'NEAP_OK', 5 }, { adapter:store(key(1), 'while') })
    to:cli('CLUSTER', 'SETSLOT', slot, 'NODE', id(to))
    from:cli('CLUSTER', 'SETSLOT', slot, 'NODE', id(to))
    assert.same({ 'NEAP_OK', 'while' }, { adapter:load(key(1), 5) }) -- MOVED
    assert.same({ 'NEAP_OK', 'while' }, { adapter:load(key(1), 5) })
    assert.matches('"redirections":[1-9]', adapter:status())
  end)

  it('goes on when a master dies and its replica takes over', function()
    local slot = slot_of(key(1))
    local master = masters_for(slot)
    open { port = (master == cluster.nodes[1] and cluster.nodes[2] or cluster.nodes[1]).port }
    all_ok(adapter:submit('store', items(40)):wait(), 40)
    cluster:replicate()
    master:kill()
    local back = process.eventually(30, function()
      return adapter:load(key(1), 2000) == 'NEAP_OK'
    end)
    assert.is_truthy(back)
    all_ok(adapter:submit('load', items(40)):wait(), 40)
    master:start()
    cluster:await()
  end)
end)
