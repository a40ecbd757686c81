-- SPDX-License-Identifier: MIT
--
-- `neap new adapter`: what it writes passes `neap check` as it is, in Lua and in C, and it never overwrites.

local kit = require 'spec.support.check'

describe('neap new adapter', function()
  local directory, remove

  before_each(function()
    directory, remove = kit.directory()
  end)

  after_each(function()
    remove()
  end)

  local function new(file, dir)
    return kit.run { kit.bin, 'new', 'adapter', file, '--dir', dir or directory }
  end

  local function read(path)
    local file = assert(io.open(path))
    local text = file:read '*a'
    file:close()
    return text
  end

  it('writes a Lua store of less than 40 lines that passes the check', function()
    local status, text = new 'my_store.lua'
    assert.equal(0, status, text)
    assert.truthy(text:find('next: neap check', 1, true))
    local source = read(directory .. '/my_store.lua')
    local _, lines = source:gsub('\n', '')
    assert.is_true(lines < 40, lines)
    assert.truthy(source:find('M.MyStore = neap.adapter', 1, true))
    assert.is_nil(source:lower():find 'skeleton')
    local checked, checks = kit.check { directory .. '/my_store.lua' }
    assert.equal('', kit.failures(checks))
    assert.equal(0, checked)
  end)

  it('writes a C store that builds outside the tree against an installed neap, and passes the check', function()
    local status, text = new('my_store.c', directory .. '/c')
    assert.equal(0, status, text)
    local prefix, build = directory .. '/prefix', directory .. '/c/build'
    local commands = {
      { 'cmake', '-E', 'copy_directory', kit.root .. '/engine/include', prefix .. '/include' },
      { 'cmake', '-S', directory .. '/c', '-B', build, '-DNEAP_INCLUDE_DIR=' .. prefix .. '/include' },
      { 'cmake', '--build', build },
    }
    for _, command in ipairs(commands) do
      local built, said = kit.run(command)
      assert.equal(0, built, said)
    end
    local checked, checks = kit.check { build .. '/my_store.so' }
    assert.equal('', kit.failures(checks))
    assert.equal(0, checked)
  end)

  it('is not needed for the store in the README, which passes, too', function()
    local path = directory .. '/drawer.lua'
    local file = assert(io.open(path, 'w'))
    local code = assert(read(kit.root .. '/README.md'):match '```lua\n(.-)```')
    file:write(code)
    file:close()
    local checked, checks = kit.check { path }
    assert.equal('', kit.failures(checks))
    assert.equal(0, checked)
  end)

  it('does not overwrite', function()
    for _, file in ipairs { 'store.lua', 'store.c' } do
      assert.equal(0, (new(file)))
      local status, text = new(file)
      assert.equal(1, status)
      assert.truthy(text:find('is there already', 1, true), text)
    end
  end)

  it('refuses a name that is none', function()
    for _, file in ipairs { 'Store.lua', 'a-b.lua', 'store', '.lua', 'x/y.c', 'store.py', ('a'):rep(64) .. '.c' } do
      local status, text = new(file)
      assert.equal(2, status, file)
      assert.truthy(text:find('expected', 1, true), text)
    end
    assert.equal(2, (kit.run { kit.bin, 'new', 'policy', 'x.lua' }))
  end)
end)
