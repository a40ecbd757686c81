-- SPDX-License-Identifier: MIT
--
-- Adapters come, go and change while a server answers without a pause: nothing fails, nothing comes back wrong.

local json = require 'spec.support.json'
local server = require 'spec.support.server'

local CYCLES = os.getenv 'NEAP_SLOW' == '1' and 200 or 50
local LOADERS = 2

local MODULE = server.read 'spec/support/files_adapter.lua'

describe('a running server', function()
  local directory, running, loaders

  before_each(function()
    directory = server.directory()
    for _, name in ipairs { '/plugins', '/lua', '/fs' } do assert(os.execute('mkdir ' .. directory .. name) == 0) end
    loaders = {}
  end)

  after_each(function()
    for _, pid in ipairs(loaders) do os.execute('kill -9 ' .. pid .. ' 2>/dev/null') end
    if running then running:discard() end
    running = nil
    os.execute("rm -rf '" .. directory .. "'")
  end)

  -- As editors do: a new file in the place of the old one.
  local function write_module(version, broken)
    local text = MODULE:gsub('VERSION = 0', 'VERSION = ' .. version):gsub('%-%- BROKEN', broken or '')
    local path = directory .. '/plugins/files.lua'
    local file = assert(io.open(path .. '~', 'w'))
    file:write(text)
    file:close()
    assert(os.rename(path .. '~', path))
  end

  local function lua_adapter(more)
    return ('{"type":"files","dir":"%s/lua"%s}'):format(directory, more or '')
  end

  -- The other one, which stays. Its files and those of libuv, whose closing ThreadSanitizer does not see, would share
  -- descriptors.
  local function steady_adapter()
    if os.getenv 'NEAP_SANITIZE' == 'thread' then
      return '{"type":"mock","max_size_gb":1,"mock_bandwidth_gb":10,"name":"fs"}'
    end
    return ('{"type":"fs","base_path":"%s/fs"}'):format(directory)
  end

  local function start(flags, l2)
    write_module(1)
    flags = flags or {}
    flags[#flags + 1] = '--plugin-path'
    flags[#flags + 1] = directory .. '/plugins'
    running = server.start {
      l2 = l2 or { lua_adapter(), steady_adapter() }, flags = flags,
    }
  end

  local function http(method, path, body)
    local command = ("curl -s -m 60 -w '\n%%{http_code}' -X %s %s 'http://127.0.0.1:%d%s'"):format(method,
      body and ("-H 'Content-Type: application/json' -d '%s'"):format(body) or '', running.http_port, path)
    local pipe = assert(io.popen(command))
    local text = pipe:read '*a'
    pipe:close()
    local answer, status = text:match '^(.*)\n(%d+)$'
    return tonumber(status), answer
  end

  local function ask(method, path, body)
    local status, answer = http(method, path, body)
    assert.truthy(status == 200 or status == 201, ('%s %s: %s %s'):format(method, path, tostring(status), answer or ''))
    return answer
  end

  -- A status that is asked while the script runs is the last one known.
  local function runs_code(version)
    return server.eventually(60, function()
      return tonumber(select(2, http('GET', '/status')):match '"code":(%d+)') == version
    end)
  end

  local function traffic()
    for i = 1, LOADERS do
      local command = ("exec luajit spec/support/traffic.lua %s '%s/stop' %d"):format(running.endpoint, directory, i)
      loaders[i] = server.spawn({ '/bin/sh', '-c', command }, ('%s/traffic-%d'):format(directory, i))
    end
    -- All of them have stored something.
    assert(server.eventually(60, function()
      local text = select(2, http('GET', '/metrics'))
      return (tonumber(text:match '\nneap_l2_stored_objects_total[^\n]* (%d+)') or 0) > 20
    end))
  end

  -- Ends the traffic: it was served without a failure.
  local function traffic_was_served()
    assert(io.open(directory .. '/stop', 'w')):close()
    for i = 1, LOADERS do
      local path, line = ('%s/traffic-%d'):format(directory, i), nil
      server.eventually(60, function()
        line = server.read(path):match 'requests [^\n]*\n'
        return line
      end)
      assert(line, 'no result: ' .. server.read(path))
      local requests, failed = line:match '^requests (%d+) failed (%d+)'
      assert.equal('0', failed, line)
      assert.truthy(tonumber(requests) > 0, line)
    end
  end

  it('reloads changed code under load and fails no request', function()
    start()
    traffic()
    for i = 2, CYCLES do
      write_module(i)
      ask('POST', '/adapters/files/reload')
      assert.truthy(runs_code(i))
    end
    traffic_was_served()
  end)

  it('detaches and attaches under load and fails no request', function()
    start()
    traffic()
    for _ = 1, CYCLES do
      assert.matches('"state":"detached"', ask('DELETE', '/adapters/files'))
      assert.matches('"index":0,"name":"files"', ask('POST', '/adapters', lua_adapter()))
    end
    traffic_was_served()
  end)

  it('keeps the running instance when the new one does not open, and reloads when it does', function()
    start()
    traffic()
    for i = 2, 10 do
      write_module(i, "do return nil, 'ECONNREFUSED', 'nobody is there' end")
      local status, answer = http('POST', '/adapters/files/reload')
      assert.equal(502, status)
      assert.matches('nobody is there; the running instance stays', answer)
      write_module(i, 'x = = 1')
      status, answer = http('POST', '/adapters/files/reload')
      assert.equal(400, status)
      assert.matches('files.lua:18: ', answer)
      assert.truthy(runs_code(i - 1))
      write_module(i)
      ask('POST', '/adapters/files/reload')
      assert.truthy(runs_code(i))
    end
    traffic_was_served()
  end)

  it('changes live parameters under load, and says of the others that they need a reload', function()
    start()
    traffic()
    for i = 1, CYCLES do
      assert.matches(('"pause":0.00%d'):format(i % 9 + 1), ask('PATCH', '/adapters/files',
        ('{"pause":0.00%d}'):format(i % 9 + 1)))
    end
    local status, answer = http('PATCH', '/adapters/files', '{"dir":"/elsewhere"}')
    assert.equal(400, status)
    assert.matches('dir: cannot be changed while the adapter runs; reload', answer)
    status, answer = http('PATCH', '/adapters/files', '{"pauze":1}')
    assert.equal(400, status)
    assert.matches("pauze: the adapter has no such parameter; did you mean 'pause'?", answer)
    status, answer = http('PATCH', '/adapters/files', '{"pause":-1}')
    assert.equal(400, status)
    assert.matches('pause must be', answer)
    -- What was set is kept by a reload, and a reload may set others.
    ask('POST', '/adapters/files/reload', '{"pause":0.001}')
    assert.truthy(server.eventually(60, function()
      return select(2, http('GET', '/status')):find('"pause":0.001', 1, true)
    end))
    traffic_was_served()
  end)

  it('keeps what it knows of a tier across a reload', function()
    start()
    traffic()
    traffic_was_served()
    assert.truthy(server.eventually(60, function()
      return select(2, http('GET', '/status')):find('"pending_keys_count":0', 1, true)
    end))
    local stored = tonumber(ask('GET', '/adapters/files'):match '"stored_objects":(%d+)')
    local used = tonumber(ask('GET', '/adapters/files'):match '"used_bytes":(%d+)')
    assert.truthy(stored > 0 and used > 0)
    local after = ask('POST', '/adapters/files/reload')
    assert.equal(used, tonumber(after:match '"used_bytes":(%d+)'))
    assert.truthy(tonumber(after:match '"stored_objects":(%d+)') >= stored)
  end)

  it('names each adapter once, and finds it by name and by index', function()
    start()
    local mock = '{"type":"mock","max_size_gb":1,"mock_bandwidth_gb":1,"name":"%s"}'
    local status, answer = http('POST', '/adapters', mock:format 'fs')
    assert.equal(409, status)
    assert.matches("name: an adapter 'fs' is attached already", answer)
    assert.matches('"index":2,"name":"fast"', ask('POST', '/adapters', mock:format 'fast'))
    assert.matches('"name":"fast"', ask('GET', '/adapters/2'))
    status, answer = http('GET', '/adapters/fats')
    assert.equal(404, status)
    assert.matches("did you mean 'fast'?", answer)
    status, answer = http('POST', '/adapters', mock:format '1')
    assert.equal(400, status)
    assert.matches('name: ', answer)
  end)

  it('is healthy as long as no store says of itself that it is not', function()
    local fs = ('{"type":"fs","base_path":"%s/fs"}'):format(directory)
    start(nil, { fs, '{"type":"mock","max_size_gb":1,"mock_bandwidth_gb":1}' })
    local function healthy(path) return json.decode(ask('GET', path)).is_healthy end
    assert.is_true(healthy '/status')
    assert.is_true(healthy '/adapters/fs')
    assert(os.execute("rm -r '" .. directory .. "/fs'") == 0)
    assert.is_false(healthy '/status')
    assert.is_false(healthy '/adapters/fs')
    assert.is_true(healthy '/adapters/mock')
  end)

  it('takes a module only from the plugin path, as at the start', function()
    start()
    assert(os.execute(("cp '%s/plugins/files.lua' '%s/outside.lua'"):format(directory, directory)) == 0)
    local status, answer = http('POST', '/adapters',
      ('{"type":"plugin","module_path":"%s/outside.lua","class_name":"Files"}'):format(directory))
    assert.equal(403, status, answer)
    assert.matches('is not below a plugin directory', answer)
    status, answer = http('POST', '/adapters', '{"type":"plugin","module_path":"../x","class_name":"X"}')
    assert.equal(400, status)
    assert.matches('must not contain', answer)
    status, answer = http('POST', '/adapters', '[]')
    assert.equal(400, status)
    assert.matches('expected a JSON object, got array', answer)
  end)

  it('starts without adapters and gets them later', function()
    start(nil, {})
    ask('POST', '/adapters', lua_adapter())
    traffic()
    ask('POST', '/adapters', steady_adapter())
    assert.truthy(server.eventually(60, function()
      return tonumber(ask('GET', '/adapters/files'):match '"loaded_objects":(%d+)') > 0
    end))
    traffic_was_served()
  end)

  local function ctl(...)
    local words = {}
    for i, word in ipairs { ... } do words[i] = "'" .. word .. "'" end
    local pipe = assert(io.popen(("NEAP_URL=http://127.0.0.1:%d '%s' ctl %s 2>&1; echo \"status $?\""):format(
      running.http_port, server.bin, table.concat(words, ' '))))
    local text = pipe:read '*a'
    pipe:close()
    local said, status = text:match '^(.*)status (%d+)\n$'
    return tonumber(status), said
  end

  it('is changed by neap ctl', function()
    start()
    local status, text = ctl 'status'
    assert.equal(0, status)
    assert.matches('health +ok', text)
    assert.matches('    0  files  files  attached  ok ', text)
    status, text = ctl('adapters', 'attach', '{"type":"mock","max_size_gb":1,"mock_bandwidth_gb":1,"name":"fast"}')
    assert.equal(0, status)
    assert.matches('    2  fast  mock  attached  ok ', text)
    status, text = ctl('adapters', 'set', 'files', 'pause=0.002')
    assert.equal(0, status, text)
    status, text = ctl('adapters', 'set', 'files', 'dir=/elsewhere')
    assert.equal(1, status)
    assert.matches('dir: cannot be changed while the adapter runs; reload', text)
    assert.truthy(select(2, ctl('--json', 'adapters', 'list')):find('"pause":\t0.002', 1, true))
    write_module(7)
    assert.equal(0, (ctl('adapters', 'reload', 'files', 'pause=0')))
    assert.truthy(runs_code(7))
    status, text = ctl('adapters', 'detach', 'fast', '--grace=1')
    assert.equal(0, status)
    assert.matches('^fast detached after ', text)
    status, text = ctl('adapters', 'detach', 'fils')
    assert.equal(1, status)
    assert.matches("did you mean 'files'?", text)
  end)

  it('tells neap ctl what was wrong with the words', function()
    start()
    for words, expected in pairs {
      ["adaptors list"] = "unknown command 'adaptors'; did you mean 'adapters'?",
      ["adapters detatch x"] = "unknown command of adapters 'detatch'; did you mean 'detach'?",
      ["adapters set files pause"] = "'pause' is not valid; expected PARAMETER=VALUE",
      ["adapters detach"] = 'detach: expected the name of an adapter',
      ["--ulr x status"] = "unknown option '--ulr'; did you mean '--url'?",
      ["--url gopher://x status"] = "--url: 'gopher://x' is not valid",
    } do
      local list = {}
      for word in words:gmatch '%S+' do list[#list + 1] = word end
      local status, text = ctl(unpack(list))
      assert.equal(2, status, words)
      assert.truthy(text:find(expected, 1, true), text)
    end
  end)

  it('reloads a module that is saved, and goes on with the old code when it is broken', function()
    start { '--watch' }
    traffic()
    local function log_has(text)
      return server.eventually(60, function() return running:output():find(text, 1, true) end)
    end
    write_module(2)
    assert.truthy(runs_code(2))
    write_module(3, 'x = = 1')
    assert.truthy(log_has "adapter 'files' goes on with its old code: ")
    assert.matches('goes on with its old code: [^\n]*files.lua:18: ', running:output())
    assert.truthy(runs_code(2))
    local file = assert(io.open(directory .. '/plugins/files.lua', 'w')) -- in place
    file:write((MODULE:gsub('VERSION = 0', 'VERSION = 4')))
    file:close()
    assert.truthy(runs_code(4))
    -- An adapter that comes later is watched as well.
    -- Not while the last reload still closes the old instance.
    assert.truthy(server.eventually(60, function() return http('DELETE', '/adapters/files') == 200 end))
    ask('POST', '/adapters', lua_adapter ',"name":"later"')
    assert.truthy(log_has "adapter 'later': watching ")
    write_module(5)
    assert.truthy(runs_code(5))
    -- Also what is saved before the watcher has noticed that there is something to watch.
    for i = 6, 8 do
      local before = i == 6 and 'later' or 'later' .. i - 1
      assert.truthy(server.eventually(60, function() return http('DELETE', '/adapters/' .. before) == 200 end))
      ask('POST', '/adapters', lua_adapter(',"name":"later' .. i .. '"'))
      write_module(i)
      assert.truthy(runs_code(i))
    end
    traffic_was_served()
  end)
end)
