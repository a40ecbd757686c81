-- SPDX-License-Identifier: MIT
--
-- `neap bench adapter`: figures of stores and loads with the limits beside them, and a store that is not right is not
-- measured.

local json = require 'spec.support.json'
local kit = require 'spec.support.check'

describe('neap bench adapter', function()
  local directory, remove

  before_each(function()
    directory, remove = kit.directory()
  end)

  after_each(function()
    remove()
  end)

  local function bench(...)
    return kit.run { kit.bin, 'bench', 'adapter', '--seconds', '0.1', '--size', '16K', '--depth', '2', ... }
  end

  local function report(...)
    local status, text = bench('--json', ...)
    assert.equal(0, status, text)
    return json.decode(text)
  end

  it('measures a store in files, beside the same disk', function()
    local figures = report('fs', '--params', ('{"base_path":"%s"}'):format(directory))
    assert.equal('fs', figures.adapter)
    assert.equal('O_DIRECT', figures.limit)
    assert.is_true(figures.rounds >= 3)
    assert.equal(figures.objects, figures.verified)
    for _, name in ipairs { 'store', 'load' } do
      local f = figures[name]
      assert.is_true(f.bytes_per_s_least > 0)
      assert.is_true(f.bytes_per_s_least <= f.bytes_per_s and f.bytes_per_s <= f.bytes_per_s_most)
      assert.is_true(0 < f.p50_us and f.p50_us <= f.p99_us)
    end
    if figures.limit_note == '' then
      assert.is_true(math.abs(figures.store_ratio * figures.limit_store.bytes_per_s / figures.store.bytes_per_s - 1)
        < 0.001)
    end
    local files = io.popen(('ls -A %s | wc -l'):format(kit.quote(directory)))
    assert.equal(0, files:read '*n') -- what it stored is gone
    files:close()
  end)

  it('measures a script beside copies of memory, with the batch that was asked for', function()
    assert.equal(0, (kit.run { kit.bin, 'new', 'adapter', 'store.lua', '--dir', directory }))
    local figures = report(directory .. '/store.lua', '--batch', '4')
    assert.equal('memcpy', figures.limit)
    assert.equal(4, figures.batch)
    assert.equal(16384, figures.size)
  end)

  it('holds a store that speaks to a socket against a socket', function()
    local path = directory .. '/echo.lua'
    local file = assert(io.open(path, 'w'))
    assert.equal(0, (kit.run { kit.bin, 'new', 'adapter', 'store.lua', '--dir', directory }))
    local source = assert(io.open(directory .. '/store.lua'))
    local text = source:read '*a':gsub('max_object_mb = {.-}', "%0, port = { type = 'integer', default = 1 }")
    source:close()
    file:write(text)
    file:close()
    local figures = report(path)
    assert.equal('loopback', figures.limit)
    assert.is_true(figures.limit_load.bytes_per_s > 0)
  end)

  it('ends with 1 when bytes are wrong or an operation fails', function()
    local status, text = bench(kit.plugins .. '/bad.so', '--params', '{"fault":"flips-a-bit"}', '--size', '1M')
    assert.equal(1, status)
    assert.truthy(text:find('not those that were stored', 1, true), text)
    status, text = bench(kit.root .. '/tests/plugins/bad.lua', '--class', 'Bad', '--params', '{"fault":"raises"}')
    assert.equal(1, status)
    assert.truthy(text:find('NEAP_ESCRIPT', 1, true), text)
    status, text = bench(kit.plugins .. '/bad.so', '--params', '{"fault":"never-ends"}', '--timeout', '0.5')
    assert.equal(1, status)
    assert.truthy(text:find('was not ended', 1, true), text)
  end)

  it('ends with 2 when its command line is wrong', function()
    for _, words in ipairs {
      {}, { 'adapter' }, { 'adapter', 'fs', '--size', '1X' }, { 'adapter', 'fs', '--depth', '0' }, { 'policy', 'fs' },
    } do
      assert.equal(2, (kit.run { kit.bin, 'bench', unpack(words) }))
    end
  end)
end)
