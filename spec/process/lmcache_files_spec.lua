-- SPDX-License-Identifier: MIT
--
-- Files of LMCache's fs adapter (tests/data/lmcache_fs): neap serves them, and writes the same ones.

local files = require 'spec.support.lmcache_files'
local server = require 'spec.support.server'

local RECORDED = 'tests/data/lmcache_fs'

describe('a directory of LMCache\'s fs adapter', function()
  local directory, running

  local function start(base_path, more)
    running = server.start {
      directory = directory, l2 = { ('{"type":"fs","base_path":"%s"%s}'):format(base_path, more or '') },
    }
  end

  before_each(function() directory = server.directory() end)

  after_each(function()
    if running then running:kill() end
    for _, name in ipairs(running and running:segments() or {}) do os.remove('/dev/shm/' .. name) end
    running = nil
    server.remove(directory)
  end)

  local function copy_recorded()
    assert.equal(0, os.execute(("mkdir '%s/l2' && cp %s/*.data '%s/l2'"):format(directory, RECORDED, directory)))
    return directory .. '/l2'
  end

  it('is served byte for byte, tenants and shards included', function()
    start(copy_recorded())
    assert.equal(files.files, files.check(running.endpoint))
  end)

  it('holds nothing for a store that insists on checksums', function()
    start(copy_recorded(), ',"checksum":"crc32"')
    local ok, message = pcall(files.check, running.endpoint)
    assert.is_false(ok)
    assert.equal('files-1-0-: 0 chunks hit, expected 2', message)
  end)

  it('is what neap writes: the same names, the same bytes', function()
    local base_path = directory .. '/written'
    start(base_path)
    assert.equal(files.files, files.store(running.endpoint))
    assert.truthy(server.eventually(20, function() return #server.files(base_path, '.data') == files.files end))
    local recorded = server.files(RECORDED, '.data')
    assert.equal(files.files, #recorded)
    for _, name in ipairs(recorded) do
      assert.equal(server.read(RECORDED .. '/' .. name), server.read(base_path .. '/' .. name), name)
    end
  end)

  it('gives no hit for a file that is too short, and the others are served', function()
    local base_path = copy_recorded()
    local tenant = server.files(base_path, 'tenantA')
    assert.equal(2, #tenant)
    for _, name in ipairs(tenant) do
      local bytes = server.read(base_path .. '/' .. name)
      local file = assert(io.open(base_path .. '/' .. name, 'wb'))
      file:write(bytes:sub(1, #bytes - 1))
      file:close()
    end
    start(base_path)
    local ok, message = pcall(files.check, running.endpoint)
    assert.is_false(ok)
    assert.equal('files-1-0-tenantA: 0 chunks hit, expected 2', message)
  end)
end)
