-- SPDX-License-Identifier: MIT
--
-- Files as scripts use them: between disk and buffers, awaited.

local driver = require 'spec.support.adapter_driver'
local hook = require 'spec.support.hook'

describe('neap.file', function()
  local dir, write, remove

  before_each(function()
    dir, write, remove = driver.directory()
  end)

  after_each(function()
    os.execute(('rm -rf -- %s/sub'):format(dir))
    remove()
  end)

  local function run(body, data)
    return (hook.run(('local dir, file = %q, neap.file '):format(dir) .. body, data))
  end

  local function read(name)
    local file = assert(io.open(dir .. '/' .. name, 'rb'))
    local text = file:read '*a'
    file:close()
    return text
  end

  it('writes a buffer and reads it back', function()
    local data = ('0123456789abcdef'):rep(65536)
    assert.equals('[1048576,1048576,true,true,true]', run([[
      local f = assert(file.open(dir .. '/a', 'w+'))
      local wrote = f:pwrite(buf, 0)
      local copy = neap.buffer(buf:size())
      report = { wrote, f:pread(copy, 0), copy:equals(buf), f:fsync(), f:close() }]], data))
    write('a', read 'a') -- to be removed
    assert.equals(#data, #read 'a')
  end)

  it('moves parts at offsets of file and buffer', function()
    write('a', '0123456789')
    assert.equals('[3,"--456-----",2]', run [[
      local f = assert(file.open(dir .. '/a', 'r+'))
      local b = neap.buffer(10):fill(45)
      local moved = f:pread(b, 4, 2, 3)
      report = { moved, b:peek(0, 10), f:pwrite(b, 20, 2, 2) }
      f:close()]])
    assert.equals('0123456789' .. ('\0'):rep(10) .. '45', read 'a')
  end)

  it('reads less than asked only at the end of the file', function()
    write('a', 'abc')
    assert.equals('[3,0,0]', run [[
      local f = assert(file.open(dir .. '/a'))
      local b = neap.buffer(100)
      report = { f:pread(b, 0), f:pread(b, 3), f:pread(b, 0, 0, 0) }
      f:close()]])
  end)

  it('moves lists of parts in one go', function()
    assert.equals('[12,12,"def--abcde","ghijkl",4,0]', run([[
      local f = assert(file.open(dir .. '/sub', 'w+'))
      local wrote = f:pwritev({ { buf, 3, 3 }, { buf, 6, 0 }, { buf, 0, 3 }, { buf, 6 } }, 0)
      local b, c = neap.buffer(10):fill(45), neap.buffer(6)
      local moved = f:preadv({ { b, 0, 3 }, { b, 5, 3 }, c }, 0)
      b:copy(buf, 5, 0, 5)
      report = { wrote, moved, b:peek(0, 10), c:peek(0, 6), f:preadv({ { b, 0, 2 }, c }, 8), f:pwrite(b, 0, 0, 0) }
      f:close()
      file.unlink(dir .. '/sub')]], 'abcdefghijkl'))
  end)

  it('moves more parts than one system call takes at once, in order', function()
    assert.equals('[4096,true]', run [[
      local b, parts = neap.buffer(4096), {}
      for i = 0, 1023 do b:poke(i * 4, ('%04d'):format(i)) parts[i + 1] = { b, (1023 - i) * 4, 4 } end
      local f = assert(file.open(dir .. '/sub', 'w+'))
      report = { (f:pwritev(parts, 0)) }
      local back = neap.buffer(4)
      f:pread(back, 4092)
      report[2] = back:peek(0, 4) == '0000'
      f:close()
      file.unlink(dir .. '/sub')]])
  end)

  it('links, cuts and syncs', function()
    assert.equals('[true,true,true,3,"EEXIST"]', run([[
      local f = assert(file.open(dir .. '/sub', 'w', { permissions = 384, synced = true }))
      f:pwrite(buf, 0)
      report = { f:truncate(3), f:fdatasync(), file.link(dir .. '/sub', dir .. '/link') }
      report[4] = file.stat(dir .. '/link').size
      report[5] = select(2, file.link(dir .. '/sub', dir .. '/link'))
      f:close()
      file.unlink(dir .. '/sub')
      file.unlink(dir .. '/link')]], 'abcdef'))
  end)

  it('goes past the page cache where the file system can, and says EINVAL where it cannot', function()
    local json = run [[
      local f, code = file.open(dir .. '/sub', 'w+', { direct = true })
      if not f then
        report = { code }
      else
        local b = neap.buffer(8192):fill(66)
        local whole, odd = f:pwrite(b, 0), { f:pread(b, 1, 0, 512) }
        report = { whole, odd[2] or 'cached' }
        f:close()
      end
      file.unlink(dir .. '/sub')]]
    assert.is_true(json == '["EINVAL"]' or json == '[8192,"EINVAL"]' or json == '[8192,"cached"]', json)
  end)

  it('makes, renames, lists, describes and removes', function()
    assert.equals('[["file","x",7],["directory"],true,true,0]', run [[
      assert(file.mkdir(dir .. '/sub'))
      local f = assert(file.open(dir .. '/sub/y', 'wx'))
      f:pwrite(buf, 0)
      f:close()
      assert(file.rename(dir .. '/sub/y', dir .. '/sub/x'))
      local entries = file.readdir(dir .. '/sub')
      assert(#entries == 1)
      local stat = file.stat(dir .. '/sub/x')
      assert(math.abs(stat.mtime - os.time()) < 1000)
      report = { { entries[1].type, entries[1].name, stat.size }, { file.stat(dir .. '/sub').type },
                 file.unlink(dir .. '/sub/x'), file.rmdir(dir .. '/sub') }
      file.mkdir(dir .. '/sub')
      report[5] = #file.readdir(dir .. '/sub')
      file.rmdir(dir .. '/sub')]])
  end)

  it('tells what failed by code and sentence', function()
    local json = run [[
      local function code(...) return tostring((...)) .. ' ' .. select(2, ...) .. ' ' .. select(3, ...) end
      report = { code(file.open(dir .. '/none')), code(file.stat(dir .. '/none')), code(file.unlink(dir .. '/none')),
        code(file.readdir(dir .. '/none')), code(file.mkdir(dir)), code(file.rename(dir .. '/none', dir .. '/x')),
        code(file.open(dir, 'w')), code(file.open('/dev/null'):pwrite(buf, 0)) }]]
    for _, expected in ipairs { 'nil ENOENT open ', 'nil ENOENT stat ', 'nil ENOENT unlink ', 'nil ENOENT readdir ',
      'nil EEXIST mkdir ', 'nil ENOENT rename ', 'nil EISDIR open ', 'nil EBADF pwrite: ' } do
      assert.matches(expected, json, 1, true)
    end
  end)

  it('creates a file that must be new only once', function()
    write('a', '')
    assert.equals('"EEXIST"', run "report = select(2, file.open(dir .. '/a', 'wx'))")
  end)

  it('raises for wrong arguments', function()
    for call, expected in pairs {
      ["file.open(dir, 'rw')"] = "invalid option 'rw'",
      ['file.open()'] = 'string expected',
      ["file.open(dir, 'r', { direct = 1 })"] = "option 'direct' is a number, expected a boolean",
      ["file.open(dir, 'r', { odirect = true })"] = "option 'odirect' is a boolean, expected permissions, direct",
      ["file.open('/dev/null'):preadv({}, 0)"] = 'expected 1 to 1024 parts',
      ["file.open('/dev/null'):preadv({ buf }, 0)"] = 'read%-only',
      ["file.open('/dev/null'):pwritev({ { buf, 0, 100 } }, 0)"] = 'length is 100',
      ["file.open('/dev/null'):pwritev({ 'text' }, 0)"] = 'neap.buffer expected',
      ["file.open('/dev/null'):pread(buf, 0)"] = 'read%-only',
      ["file.open('/dev/null'):pread(neap.buffer(1), -1)"] = 'expected a file offset',
      ["file.open('/dev/null'):pread(neap.buffer(1), 0, 2)"] = 'offset is 2',
      ["local f = file.open('/dev/null') f:close() f:close()"] = 'file is closed',
      ["local f = file.open('/dev/null') f:close() f:pread(neap.buffer(1), 0)"] = 'file is closed',
      ["coroutine.wrap(file.stat)('/')"] = 'cannot await inside a coroutine',
    } do
      assert.matches(expected, run(('report = select(2, pcall(function() %s end))'):format(call)))
    end
  end)

  it('closes files that were forgotten', function()
    assert.equals('true', run [[
      local function count()
        local n = 0
        for _ in ipairs(file.readdir '/proc/self/fd') do n = n + 1 end
        return n
      end
      collectgarbage()
      local before = count()
      for _ = 1, 50 do file.open('/dev/null') end
      collectgarbage()
      collectgarbage()
      report = count() <= before]])
  end)

  it('keeps buffer and file for a read that is in flight', function()
    write('a', ('x'):rep(100000))
    local adapter = hook.open { head = ('local dir, file, b = %q'):format(dir), store = [[
      file = assert(neap.file.open(dir .. '/a'))
      b = neap.buffer(100000)
      local sum = neap.buffer(100000):fill(120):crc32c()
      for _ = 1, 200 do
        if not file then file, b = assert(neap.file.open(dir .. '/a')), neap.buffer(100000) end
        local moved = file:pread(b, 0)
        assert(moved == 100000)
      end
      return true]], lookup = [[
      if b then b:free() end
      if file then file:close() end
      b, file = nil, nil
      collectgarbage()
      return false]] }
    local store = adapter:submit('store', { { key = hook.key(1), data = 'x' } })
    driver.eventually(function()
      assert.equals('NEAP_ENOENT', (adapter:lookup(hook.key(1))))
      return store:ended()
    end)
    assert.equals('NEAP_OK', store:wait():result())
    adapter:close()
  end)

  it('does not await with a buffer that another operation was lent', function()
    local adapter = hook.open { head = 'local lent, done', store = [[
      lent = buf
      while not done do neap.sleep(0.0001) end
      return true]], load = [[
      local f = neap.file.open('/dev/null', 'r+')
      report = { select(2, pcall(f.pwrite, f, lent, 0)), lent:size() }
      done = true
      f:close()
      return true]] }
    local store = adapter:submit('store', { { key = hook.key(1), data = 'lent' } })
    adapter:load(hook.key(1), 4)
    assert.equals('NEAP_OK', store:wait():result())
    assert.matches('buffer belongs to another operation', adapter:status())
    adapter:close()
  end)

  it('waits for what a canceled operation has in flight, and lets it clean up', function()
    local data = ('y'):rep(4 * 1048576)
    local adapter = hook.open { head = ('local dir, writing = %q'):format(dir), lookup = 'return writing', store = [[
      local path = dir .. '/sub'
      local f = assert(neap.file.open(path, 'w'))
      writing = true
      local _, why = pcall(function() while true do assert(f:pwrite(buf, 0)) end end)
      assert(f:close())
      assert(neap.file.unlink(path))
      report = why
      error(why, 0)]] }
    local op = adapter:submit('store', { { key = hook.key(1), data = data } })
    driver.eventually(function()
      assert.is_false(op:ended())
      return adapter:lookup(hook.key(1)) == 'NEAP_OK'
    end)
    op:cancel()
    assert.equals('NEAP_ECANCELED', op:wait():result())
    assert.matches('neap: operation canceled', adapter:status())
    assert.is_nil(io.open(dir .. '/sub'))
    adapter:close()
  end)

  it('gives a load its bytes in place', function()
    local data = ('z'):rep(300000)
    write('a', data)
    local adapter = hook.open { head = ('local dir = %q'):format(dir), load = [[
      local f = assert(neap.file.open(dir .. '/a'))
      collectgarbage()
      local moved, code, message = f:pread(buf, 0)
      f:close()
      if not moved then return nil, code, message end
      return moved == buf:size() or nil, 'ECORRUPT', 'short']] }
    local result, loaded = adapter:load(hook.key(1), #data)
    assert.equals('NEAP_OK', result)
    assert.is_true(loaded == data)
    assert.equals('NEAP_ECORRUPT', (adapter:load(hook.key(1), #data + 1)))
    adapter:close()
  end)
end)
