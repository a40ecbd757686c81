-- SPDX-License-Identifier: MIT

local hook = require 'spec.support.hook'

-- The message of the error that `code` raises in a hook.
local function raised(code)
  return (hook.run(('report = select(2, pcall(function() %s end))'):format(code)))
end

describe('a buffer', function()
  it('tells its size', function()
    assert.equals('[7,7,1000]', (hook.run 'report = { buf:size(), #buf, neap.buffer(1000):size() }'))
  end)

  it('that is new holds zeros', function()
    assert.equals('true', (hook.run 'report = neap.buffer(9):equals(neap.buffer(9):fill(0))'))
  end)

  it('is copied without becoming a string', function()
    assert.equals('"--payload-"', (hook.run [[
      local to = neap.buffer(10):fill(45)
      report = to:copy(buf, 2):peek(0, 10)]]))
  end)

  it('is copied in parts', function()
    assert.equals('"yl"', (hook.run 'report = neap.buffer(2):copy(buf, 0, 2, 2):peek(0, 2)'))
  end)

  it('copies overlapping parts of itself', function()
    assert.equals('"ababcd"', (hook.run [[
      local own = neap.buffer(6):poke(0, 'abcdef')
      report = own:copy(own, 2, 0, 4):peek(0, 6)]]))
  end)

  it('knows whether another one is equal', function()
    assert.equals('[true,false,false]', (hook.run [[
      local copy = neap.buffer(7):copy(buf)
      report = { buf:equals(copy), buf:equals(neap.buffer(7)), buf:equals(neap.buffer(8)) }]]))
  end)

  it('has the CRC-32C of the published test vector', function()
    assert.equals(tostring(0xe3069283), (hook.run('report = buf:crc32c()', '123456789')))
    assert.equals('[true,true]', (hook.run([[
      report = { buf:crc32c(2, 3) == neap.buffer(3):copy(buf, 0, 2, 3):crc32c(), buf:crc32c(9) == 0 }]],
      '123456789')))
  end)

  it('of a store is read-only', function()
    assert.matches('read%-only', raised 'buf:fill(0)')
    assert.matches('read%-only', raised 'buf:copy(neap.buffer(1))')
    assert.matches('read%-only', raised 'buf:poke(0, "x")')
  end)

  it('is not written or read past its end', function()
    assert.matches('does not fit', raised 'neap.buffer(3):copy(buf)')
    assert.matches('does not fit', raised 'neap.buffer(8):copy(buf, 2)')
    assert.matches('does not fit', raised 'neap.buffer(3):poke(1, "abc")')
    assert.matches('offset is 8, expected', raised 'buf:crc32c(8)')
    assert.matches('length is 3, expected', raised 'buf:peek(5, 3)')
    assert.matches('offset is %-1, expected', raised 'buf:crc32c(-1)')
    assert.matches('offset is 0.5, expected', raised 'buf:crc32c(0.5)')
    assert.matches('byte is 256, expected', raised 'neap.buffer(1):fill(256)')
    assert.matches('expected', raised 'neap.buffer(0 / 0)')
  end)

  it('does not give payload away as a string', function()
    assert.matches('4096', raised 'neap.buffer(5000):peek(0, 4097)')
  end)

  it('that was freed raises on every access', function()
    for _, access in ipairs { 'b:size()', '#b', 'b:copy(buf)', 'buf:equals(b)', 'b:crc32c()', 'b:fill(1)',
      'b:peek(0, 1)', 'b:poke(0, "")' } do
      assert.matches('buffer no longer valid', raised(('local b = neap.buffer(8) b:free() return %s'):format(access)))
    end
    assert.equals('true', (hook.run 'local b = neap.buffer(8) b:free() b:free() report = neap.memory() == 0'))
  end)

  it('that was lent raises once its hook has returned', function()
    local adapter = hook.open {
      head = 'local kept',
      store = 'kept = buf return true',
      load = 'kept = buf return true',
      lookup = 'report = select(2, pcall(kept.size, kept)) return false',
    }
    for _, kind in ipairs { 'store', 'load' } do
      adapter[kind](adapter, hook.key(1), kind == 'store' and 'data' or 4)
      adapter:lookup(hook.key(1))
      assert.matches('buffer no longer valid', adapter:status())
    end
    adapter:close()
  end)

  it('that was lent raises also between the objects of one operation', function()
    local adapter = hook.open {
      head = 'local kept',
      store = 'report = kept and select(2, pcall(kept.size, kept)) kept = buf return true',
    }
    adapter:submit('store', { { key = hook.key(1), data = 'a' }, { key = hook.key(2), data = 'b' } }):wait()
    assert.matches('buffer no longer valid', adapter:status())
    adapter:close()
  end)

  it('that was lent may be collected while its hook runs', function()
    assert.equals('"done"', (hook.run 'buf = nil collectgarbage() collectgarbage() report = "done"'))
  end)

  it('is counted, and given back by free or the collector', function()
    assert.equals('[3000,2000,0]', (hook.run [[
      local a, b = neap.buffer(1000), neap.buffer(2000)
      local all = neap.memory()
      a:free()
      local one = neap.memory()
      b = nil
      collectgarbage()
      collectgarbage()
      report = { all, one, neap.memory(), b }]]))
  end)

  it('that nobody holds is collected before many like it pile up', function()
    local json = hook.run [[
      local most = 0
      for _ = 1, 500 do
        neap.buffer(1048576)
        most = math.max(most, neap.memory())
      end
      report = most / 1048576]]
    assert.is_true(tonumber(json) < 100, json .. ' MiB were held at once')
  end)

  it('that no memory is left for is an error of the store, which goes on', function()
    local adapter = hook.open {
      store = 'local b, code, message = neap.buffer(2 ^ 46) report = message return b, code, message',
    }
    assert.equals('NEAP_ENOMEM', (adapter:store(hook.key(1), 'x')))
    assert.matches('no memory for a buffer', adapter:status())
    assert.equals('NEAP_ENOENT', (adapter:lookup(hook.key(1))))
    adapter:close()
  end)

  it('is refused in the place of another kind of userdata', function()
    assert.matches('neap.buffer expected', raised 'neap.buffer(1):copy(key)')
    assert.matches('neap.buffer expected', raised 'buf.size(io.stdout)')
  end)
end)

describe('a key', function()
  it('has the fields of an object', function()
    local adapter = hook.open {
      store = [[report = { key.text, tostring(key), key.file, key.model, key.salt, key.hash, key.rank, key.group }
        return true]],
    }
    adapter:store(hook.key(0xabc, 'alice'), 'x')
    local hash = ('%064x'):format(0xabc)
    local text = 'demo/tiny@01000100@0@' .. hash .. '@alice'
    local file = 'demo-SEP-tiny@0x01000100@0@' .. hash .. '@alice.data'
    assert.matches(('["%s","%s","%s","demo/tiny","alice","%s",16777472,0]'):format(text, text, file, hash),
      adapter:status():gsub('\\/', '/'), 1, true)
    adapter:close()
  end)

  it('may be kept after its operation', function()
    local adapter = hook.open {
      head = 'local kept',
      store = 'kept = key return true',
      lookup = 'collectgarbage() report = { kept.text == key.text, kept == key, rawequal(kept, key) } return false',
    }
    adapter:store(hook.key(5, 'bob'), 'x')
    adapter:lookup(hook.key(5, 'bob'))
    assert.matches('[true,true,false]', adapter:status(), 1, true)
    adapter:close()
  end)

  it('is made from its text or file name, and from nothing else', function()
    assert.equals('[true,true,true,true]', (hook.run [[
      report = { neap.key(key.text) == key, neap.key(key.file, 'file') == key,
                 neap.key(key.text, 'file') == nil, neap.key('x.data', 'file') == nil }]]))
  end)

  it('names its fields when asked for another', function()
    assert.matches("no field 'txt'; it has text, file", raised 'return key.txt')
  end)
end)
