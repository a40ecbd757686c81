-- SPDX-License-Identifier: MIT
--
-- `neap replay` as a shell sees it: its figures on the shipped traces, the same bytes every time, and what it says of
-- words and files that are wrong.

local json = require 'spec.support.json'
local kit = require 'spec.support.check'

local mooncake = kit.root .. '/tests/data/mooncake_conversation.jsonl.xz'
local agents = kit.root .. '/tests/data/lmcache_agents_256ch.jsonl.xz'

describe('neap replay', function()
  local directory, remove

  before_each(function()
    directory, remove = kit.directory()
  end)

  after_each(function()
    remove()
  end)

  local function replay(...)
    return kit.run { 'env', 'LC_ALL=C', kit.bin, 'replay', ... }
  end

  -- The objects of --json in order, and the lines.
  local function figures(...)
    local status, text = replay('--json', ...)
    assert.equal(0, status, text)
    local objects, lines = {}, {}
    for line in text:gmatch '[^\n]+' do
      objects[#objects + 1], lines[#lines + 1] = json.decode(line), line
    end
    return objects, lines
  end

  local function write(name, text)
    local path = directory .. '/' .. name
    local file = assert(io.open(path, 'w'))
    file:write(text)
    file:close()
    return path
  end

  local function read(path)
    local file = assert(io.open(path))
    local text = file:read '*a'
    file:close()
    return text
  end

  local function fails(expected, ...)
    local words = { ... }
    local status, text = replay(unpack(words))
    local line = table.concat(words, ' ') .. '\n' .. text
    assert.equal(expected[1], status, line)
    for i = 2, #expected do
      assert.truthy(text:find(expected[i], 1, true), line)
    end
    return text
  end

  it('prints an object with known fields in known order for each trace, size and policy', function()
    local objects, lines = figures(agents, mooncake, '--policy', 'lru,belady', '--size', '1%,500')
    local seen = {}
    for i, object in ipairs(objects) do
      seen[i] = ('%s %s %d'):format(object.trace, object.policy, object.size_chunks)
    end
    assert.same({
      'lmcache_agents_256ch lru 61', 'lmcache_agents_256ch belady 61',
      'lmcache_agents_256ch lru 500', 'lmcache_agents_256ch belady 500',
      'mooncake_conversation lru 1827', 'mooncake_conversation belady 1827',
      'mooncake_conversation lru 500', 'mooncake_conversation belady 500',
    }, seen)
    local names = {}
    for name in lines[1]:gmatch '"([%w_]+)":' do
      names[#names + 1] = name
    end
    assert.same({
      'trace', 'policy', 'order', 'size_fraction', 'size_chunks', 'requests', 'accesses', 'distinct', 'block_hit_ratio',
      'prefix_hit_ratio', 'evictions', 'orphan_evictions', 'accesses_per_s',
    }, { unpack(names, 1, 13) })
    assert.equal(0.01, objects[1].size_fraction)
    assert.near(500 / 6162, objects[3].size_fraction, 1e-12)
    assert.equal(61278, objects[1].accesses)
    assert.equal(1619, objects[1].requests)
    assert.equal(6162, objects[1].distinct)
    for _, object in ipairs(objects) do
      assert.is_true(object.accesses_per_s > 0)
    end
  end)

  -- Object hit ratios of libCacheSim 0.3.5, object size 1, no warm-up; see tests/data/README.md.
  it('finds what other simulators find', function()
    for order, expected in pairs {
      tail = { lru = { 0.052270, 0.353477 }, fifo = { 0.050485, 0.334381 } },
      head = { lru = { 0.052270, 0.353477 }, fifo = { 0.050485, 0.334381 } },
    } do
      for _, object in ipairs(figures(mooncake, '--policy', 'lru,fifo', '--size', '1%,25%', '--order', order)) do
        local ratio = expected[object.policy][object.size_fraction == 0.01 and 1 or 2]
        assert.near(ratio, object.block_hit_ratio, 0.0005)
        assert.equal(order, object.order)
      end
    end
  end)

  it('keeps prefixes whole when tails are touched first', function()
    local tail = figures(agents, '--policy', 'lru', '--size', '5%')[1]
    local head = figures(agents, '--policy', 'lru', '--size', '5%', '--order', 'head')[1]
    assert.equal(0, tail.orphan_evictions)
    assert.is_true(head.orphan_evictions > head.evictions / 2)
    assert.is_true(tail.prefix_hit_ratio > head.prefix_hit_ratio)
  end)

  it('writes the same bytes every time', function()
    local policies = 'lru,arc,random,isolated:s3fifo,' .. kit.root .. '/lua/neap/policies/lru.lua'
    local words = { agents, '--policy', policies, '--size', '2%,10%', '--seed', '7' }
    local function run(name, threads)
      local report = directory .. '/' .. name
      local status, text = replay('--report', report, '--threads', threads, unpack(words))
      assert.equal(0, status, text)
      return (text:gsub('%d+ runs, [^\n]*\n', '')), read(report) -- how long it took goes to stderr
    end
    local text, report = run('first.html', '1')
    local same_text, same_report = run('second.html', '5')
    assert.equal(text, same_text)
    assert.equal(report, same_report)
    local _, lines = figures(unpack(words))
    local _, again = figures(unpack(words))
    for i, line in ipairs(lines) do
      assert.equal((line:gsub('"accesses_per_s":%d+', '')), (again[i]:gsub('"accesses_per_s":%d+', '')))
    end
  end)

  it('takes a seed for policies that draw lots', function()
    local one = figures(agents, '--policy', 'random', '--size', '5%', '--seed', '1')[1]
    local two = figures(agents, '--policy', 'random', '--size', '5%', '--seed', '2')[1]
    assert.are_not.equal(one.block_hit_ratio, two.block_hit_ratio)
  end)

  it('replays a policy from a file, and decides as the built-in that it is a copy of', function()
    local file = kit.root .. '/lua/neap/policies/lru.lua'
    local objects = figures(agents, '--policy', 'lru,' .. file, '--size', '3%')
    assert.equal(file, objects[2].policy)
    for _, name in ipairs { 'block_hit_ratio', 'prefix_hit_ratio', 'evictions', 'orphan_evictions' } do
      assert.equal(objects[1][name], objects[2][name], name)
    end
  end)

  it('keeps commas of parameters apart from those of the list', function()
    local objects = figures(agents, '--policy', 's3fifo:small=0.2,ghost=0.5,lru', '--size', '5%')
    assert.equal('s3fifo:small=0.2,ghost=0.5', objects[1].policy)
    assert.equal('lru', objects[2].policy)
  end)

  it('takes sizes of one chunk and of more than there is', function()
    local objects = figures(agents, '--policy', 'lru,arc', '--size', '1,0.001%,100%,1000%')
    assert.equal(1, objects[1].size_chunks)
    assert.equal(1, objects[3].size_chunks)
    assert.equal(0, objects[5].evictions)
    assert.equal(objects[5].block_hit_ratio, objects[7].block_hit_ratio)
    assert.near((61278 - 6162) / 61278, objects[7].block_hit_ratio, 1e-9)
    local _, text = replay(agents, '--size', '1000%')
    assert.truthy(text:find('holds everything', 1, true), text)
  end)

  it('takes sizes in bytes where it knows how large a chunk is', function()
    local objects = figures(agents, '--size', '64M', '--chunk-bytes', '1M')
    assert.equal(64, objects[1].size_chunks)
    assert.is_true(objects[1].saved_bytes > 0)
    fails({ 2, "--size: '64M'", 'lmcache_agents_256ch', '--chunk-bytes' }, agents, '--size', '64M')
  end)

  it('weighs time by the cost that it is told', function()
    local dear = figures(agents, '--size', '5%', '--cost', 'base=1000,slope=0,load=0')[1]
    assert.near(dear.accesses * 1e-3, dear.recompute_s, 1e-6)
    assert.near(dear.accesses * dear.prefix_hit_ratio * 1e-3, dear.saved_s, 1e-6)
  end)

  it('loads and stores in tiers below, as a policy plans it', function()
    local second = write('second.lua', [[
local policy = require 'neap.policy'
return policy {
  name = 'second',
  new = function(ctx)
    local order = policy.list(ctx.slots)
    return {
      insert = function(slot) order:push(slot) end,
      hit = function(slot) order:touch(slot) end,
      keep = function(slot) order:keep(slot) end,
      remove = function(slot) order:remove(slot) end,
      victim = function(tenant) return order:pop(tenant) end,
      store_plan = function(plan) -- nothing goes down before its second use
        local cut = 0
        while cut < plan.chunks and plan.chunk[cut].hits > 0 do cut = cut + 1 end
        plan.cut[0] = cut
      end,
    }
  end,
}
]])
    local words = { agents, '--policy', 'lru,' .. second, '--size', '1%', '--chunk-bytes', '1M' }
    local alone = figures(unpack(words))
    local objects = figures('--tiers', 'ssd:100%:3GBps:1ms', unpack(words))
    local all, planned = objects[1].tiers[1], objects[2].tiers[1]
    assert.equal('ssd', all.name)
    assert.equal(6162, all.stores)
    assert.equal(6162 * 1048576, all.stored_bytes)
    assert.is_true(planned.stores > 0 and planned.stores < all.stores)
    assert.is_true(planned.loads < all.loads)
    assert.is_true(objects[1].usable_ratio > objects[2].usable_ratio)
    assert.is_true(objects[2].usable_ratio > objects[2].prefix_hit_ratio)
    assert.is_true(objects[1].saved_s > alone[1].saved_s)
    fails({ 2, '--tiers', '--chunk-bytes' }, agents, '--tiers', 'ssd:50%:3GBps')
    fails({ 2, "--tiers: 'ssd:50%'", 'BANDWIDTH' }, agents, '--tiers', 'ssd:50%')
  end)

  it('draws a plot that any terminal can show, and better ones where it may', function()
    local status, text = replay(agents, '--policy', 'lru,arc')
    assert.equal(0, status, text)
    assert.truthy(text:find('prefix hit ratio over size', 1, true))
    assert.is_nil(text:find '[\128-\255\27]')
    status, text = kit.run { 'env', 'LC_ALL=C.UTF-8', kit.bin, 'replay', agents, '--policy', 'lru,arc' }
    assert.equal(0, status, text)
    assert.truthy(text:find '\226[\160-\163][\128-\191]') -- U+2800 and on
    assert.is_nil(text:find '\27')
  end)

  it('leaves no report when it fails', function()
    local path = directory .. '/report.html'
    fails({ 1, 'broken' }, write('broken.jsonl', '{"timestamp": 1\n'), '--report', path)
    assert.is_nil(io.open(path))
    assert.is_nil(io.open(path .. '.part'))
    fails({ 1, '--report', 'Is a directory' }, agents, '--report', directory)
    fails({ 1, '--report', 'No such file or directory' }, agents, '--report', directory .. '/no/such/place.html')
  end)

  it('ends with 1 and tells file and line when a policy fails, and goes on with the others', function()
    local bad = write('bad.lua', [[
local policy = require 'neap.policy'
return policy {
  name = 'bad',
  new = function(ctx)
    local count = 0
    return {
      insert = function() end,
      victim = function()
        count = count + 1
        if count == 100 then error 'no more' end
        return 0
      end,
    }
  end,
}
]])
    local text = fails({ 1, 'bad.lua:10', 'no more' }, agents, '--json', '--size', '5%',
      '--policy', 'lru,' .. bad .. ',arc')
    assert.truthy(text:find('"policy":"lru"', 1, true))
    assert.truthy(text:find('"policy":"arc"', 1, true))
    assert.is_nil(text:find('"policy":"' .. bad, 1, true))
    fails({ 1, 'syntax.lua:2' }, agents, '--policy', write('syntax.lua', 'local x = 1\nlocal = 2\n'))
  end)

  it('ends with 2 and says what is wrong with its words', function()
    fails { 2, 'no trace given' }
    fails({ 2, "'lruu'", "did you mean 'LRU'?" }, agents, '--policy', 'lruu')
    fails({ 2, 'empty name' }, agents, '--policy', 'lru,,arc')
    fails({ 2, "'x'", 'ARC' }, agents, '--policy', 'arc:x=1')
    fails({ 2, "--size: '0%'", 'more than 0' }, agents, '--size', '0%')
    fails({ 2, "--size: '-5%'" }, agents, '--size', '-5%')
    fails({ 2, "--size: 'big'", '5%' }, agents, '--size', '1%,big')
    fails({ 2, "--order: 'rev'", 'tail or head' }, agents, '--order', 'rev')
    fails({ 2, "--format: 'mooncak'", "did you mean 'mooncake'?" }, agents, '--format', 'mooncak')
    fails({ 2, "--cost: 'bass=1'" }, agents, '--cost', 'bass=1')
    fails({ 2, '--threads' }, agents, '--threads', '0')
    fails({ 2, "did you mean '--policy'?" }, agents, '--polcy', 'lru')
  end)

  it('ends with 1 when a trace cannot be read, before it does anything', function()
    local text = fails({ 1, 'nowhere.jsonl', 'No such file' }, agents, directory .. '/nowhere.jsonl')
    assert.is_nil(text:find('distinct', 1, true))
    fails({ 1, 'empty' }, write('empty.jsonl', ''))
  end)
end)
