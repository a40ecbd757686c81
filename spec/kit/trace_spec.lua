-- SPDX-License-Identifier: MIT
--
-- `neap trace`: what it tells of a trace, what it converts, and how it refuses.

local json = require 'spec.support.json'
local kit = require 'spec.support.check'

describe('neap trace', function()
  local agents = kit.root .. '/tests/data/lmcache_agents_256ch.jsonl.xz'
  local mooncake = kit.root .. '/tests/data/mooncake_conversation.jsonl.xz'
  local directory, remove

  before_each(function()
    directory, remove = kit.directory()
  end)

  after_each(function()
    remove()
  end)

  local function trace(...)
    return kit.run { kit.bin, 'trace', ... }
  end

  local function info(path)
    local status, text = trace('info', '--json', path)
    assert.equal(0, status, text)
    return json.decode(text)
  end

  local function write(name, text)
    local path = directory .. '/' .. name
    local file = assert(io.open(path, 'wb'))
    file:write(text)
    file:close()
    return path
  end

  local function read(path)
    local file = assert(io.open(path, 'rb'))
    local text = file:read '*a'
    file:close()
    return text
  end

  it('tells what is in the shipped traces', function()
    local t = info(agents)
    assert.same({ 'agent', 1619, 249, 61278, 6162, 69, 342 },
      { t.format, t.requests, t.empty_requests, t.references, t.distinct, t.sessions, t.out_of_order })
    assert.same({ p50 = 18, p90 = 99, p99 = 411, max = 566 }, t.request_chunks)
    assert.equal(3, #t.tenants)
    local requests, references = 0, 0
    for _, tenant in ipairs(t.tenants) do
      requests, references = requests + tenant.requests, references + tenant.references
    end
    assert.same({ 1619, 61278 }, { requests, references })
    t = info(mooncake)
    assert.same({ 'mooncake', 12031, 288500, 182790, 512, 3536999 },
      { t.format, t.requests, t.references, t.distinct, t.chunk_tokens, t.span_ms })
  end)

  it('tells it in words, file by file', function()
    local status, text = trace('info', agents, mooncake)
    assert.equal(0, status)
    assert.truthy(text:find('1619 (249 without chunks)', 1, true))
    assert.truthy(text:find('61278 to 6162 distinct chunks, 89.9 % repeated', 1, true))
    assert.truthy(text:find('12031', 1, true))
    assert.truthy(text:find('512 tokens', 1, true))
    assert.falsy(text:find('\27', 1, true)) -- no terminal, no colour and no bar
  end)

  it('converts there and back without losing anything', function()
    local first, second = directory .. '/a.neap', directory .. '/b.jsonl'
    assert.same({ 0, '' }, { trace('convert', agents, first) })
    assert.same({ 0, '' }, { trace('convert', first, second, '--to', 'agent') })
    assert.is_true(#read(first) < 8000)
    local a, b, c = info(agents), info(first), info(second)
    for _, t in ipairs { a, b, c } do
      t.file, t.trace, t.format, t.began_us = nil, nil, nil, nil
    end
    assert.same(a, b)
    assert.same(a, c)
  end)

  it('says what a format has no place for', function()
    local status, text = trace('convert', agents, directory .. '/a.oracleGeneral')
    assert.equal(0, status)
    assert.truthy(text:find('oracleGeneral has no place for prefixes and tenants; left out', 1, true))
    assert.equal(61278 * 24, #read(directory .. '/a.oracleGeneral'))
    local sized = write('sized.csv', 'time,key,size\n1,2,5000\n')
    status, text = trace('convert', sized, directory .. '/x.jsonl', '--to', 'mooncake')
    assert.equal(1, status)
    assert.truthy(text:find('mooncake has no place for sizes', 1, true))
    assert.is_nil(io.open(directory .. '/x.jsonl'))
  end)

  it('reads columns that are told, and the first requests only', function()
    local path = write('accesses', '5,x,9\n6,y,10\n7,x,9\n')
    local status, text = trace('info', '--json', '--format', 'csv', '--columns', 'time,key,-', '--requests', '2', path)
    assert.equal(0, status, text)
    local t = json.decode(text)
    assert.same({ 2, 2, 1000 }, { t.requests, t.distinct, t.span_ms })
  end)

  it('ends with 1 and the line when a file is wrong, and goes on with the others', function()
    local path = write('bad.jsonl', '{"timestamp": 0, "hash_ids": [1]}\n{"timestamp": 0, "hash_ids": [1, -4]}\n')
    local status, text = trace('info', path, mooncake)
    assert.equal(1, status)
    assert.truthy(text:find('bad.jsonl: line 2: hash_ids[1] is -4; expected an integer from 0', 1, true))
    assert.truthy(text:find('12031', 1, true))
    status = trace('info', directory .. '/nowhere.csv')
    assert.equal(1, status)
  end)

  it('says when a recording was cut', function()
    local whole = directory .. '/a.neap'
    trace('convert', agents, whole)
    local cut = write('cut.neap', read(whole):sub(1, -10))
    assert.is_true(info(cut).cut)
    local _, text = trace('info', cut)
    assert.truthy(text:find('ends within a block', 1, true))
  end)

  it('ends with 2 and a suggestion when the command line is wrong', function()
    local function refuses(words, ...)
      local status, text = trace(...)
      assert.equal(2, status, text)
      assert.truthy(text:find(words, 1, true), text)
    end
    refuses('expected info or convert')
    refuses("did you mean 'convert'?", 'convrt', 'a', 'b')
    refuses('info: expected a file', 'info')
    refuses('expected two files', 'convert', agents)
    refuses("did you mean 'mooncake'?", 'convert', agents, directory .. '/x', '--to', 'moncake')
    refuses("no format ends files with '.xyz'", 'convert', agents, directory .. '/a.xyz')
    refuses("did you mean '--json'?", 'info', '--jsn', agents)
    refuses('--format tells what is read', 'info', '--to', 'csv', agents)
  end)

  it('prints its formats, and each is in the man page', function()
    local status, text = kit.run { kit.bin, 'help', 'trace' }
    assert.equal(0, status)
    local page = read(kit.root .. '/engine/man/neap-trace.1')
    local count = 0
    for name in text:match('formats:\n(.-)\n\n'):gmatch '  (%S+) [^\n]*' do
      count = count + 1
      assert.truthy(page:find('.It Cm ' .. name, 1, true), name)
    end
    assert.equal(6, count)
    for option in text:match('options:\n(.-)\n\n'):gmatch '%-%-(%S+)' do
      assert.truthy(page:find('.It Fl -' .. option, 1, true), option)
    end
  end)
end)
