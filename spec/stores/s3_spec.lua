-- SPDX-License-Identifier: MIT
--
-- The s3 adapter and a real S3 service. What it does with services that misbehave: tests/unit/test_s3.c.

local driver = require 'spec.support.adapter_driver'
local s3 = require 'spec.support.s3'

local MIB = 1048576

describe('the s3 adapter', function()
  if s3.missing() then
    pending(s3.missing())
    return
  end

  local service, adapter
  setup(function() service = s3.start() end)
  teardown(function() service:discard() end)
  after_each(function()
    for _, entry in ipairs(adapter:list()) do adapter:delete(entry.key) end
    adapter:close()
  end)

  local function open(more)
    local message
    adapter, message = driver.open_config(service:config(more), '')
    assert(adapter, message)
  end

  it('sends long objects in parts and brings them back in parts', function()
    open '"part_mb": 5'
    local data = ('a'):rep(5 * MIB) .. ('b'):rep(5 * MIB) .. ('c'):rep(12345)
    assert.same({ 'NEAP_OK', #data }, { adapter:store(driver.key(1), data) })
    assert.same({ 'NEAP_OK', 0 }, { adapter:store(driver.key(1), data) })
    local result, back = adapter:load(driver.key(1), #data)
    assert.equals('NEAP_OK', result)
    assert.is_true(back == data)
    assert.equals('NEAP_ECORRUPT', (adapter:load(driver.key(1), #data - 1)))
    assert.equals('NEAP_ECORRUPT', (adapter:load(driver.key(1), #data + 1)))
    assert.equals('NEAP_ECORRUPT', (adapter:load(driver.key(1), 6 * MIB)))
  end)

  it('names objects as LMCache does', function()
    open()
    local key = driver.key(1, 'tenant A')
    adapter:store(key, 'x')
    assert.equals(0, os.execute(("test -f '%s/root/cache/%s'"):format(service.directory, key)))
  end)

  it('keeps prefixes apart', function()
    open '"prefix": "one/"'
    adapter:store(driver.key(1), 'x')
    local other = assert(driver.open_config(service:config '"prefix": "two/"', ''))
    assert.equals('NEAP_ENOENT', (other:lookup(driver.key(1))))
    assert.equals(0, #other:list())
    other:close()
    assert.equals(1, #adapter:list())
  end)

  it('lists more objects than one page has', function()
    open()
    local items = {}
    for n = 1, 1100 do items[n] = { key = driver.key(n), data = 'x' } end
    local op = adapter:submit('store', items):wait()
    for n = 1, 1100 do assert.equals('NEAP_OK', op:result(n)) end
    assert.equals(1100, #adapter:list())
  end)

  it('fails while the service is away, and works when it is back', function()
    open '"attempts": 1'
    assert.equals('NEAP_OK', (adapter:store(driver.key(1), 'before')))
    service:kill()
    assert.equals('NEAP_EIO', (adapter:load(driver.key(1), 6)))
    assert.equals('NEAP_EIO', (adapter:store(driver.key(2), 'lost')))
    service:restart()
    assert.same({ 'NEAP_OK', 'before' }, { adapter:load(driver.key(1), 6) })
    assert.equals('NEAP_ENOENT', (adapter:lookup(driver.key(2))))
  end)

  it('is refused with wrong credentials', function()
    open()
    local wrong = service:config():gsub('"SK"', '"KS"')
    local none, message = driver.open_config(wrong, '')
    assert.is_nil(none)
    assert.matches('status 403 SignatureDoesNotMatch', message)
  end)
end)
