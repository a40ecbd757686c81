-- SPDX-License-Identifier: MIT
--
-- The console of a live server: who may have one, what it cannot reach, what ends it, and that the server does not
-- mind.

local server = require 'spec.support.server'
local workload = require 'spec.support.workload'

local TOKEN = 'a token that nobody guesses' -- blanks are not allowed: see the first test
local GOOD_TOKEN = TOKEN:gsub(' ', '-')

describe('the console of a server', function()
  local directory, running, socket, token_file

  before_each(function()
    directory = server.directory()
    socket, token_file = directory .. '/console.sock', directory .. '/token'
  end)

  after_each(function()
    if running then running:discard() else server.remove(directory) end
    running = nil
  end)

  local function write(path, text, mode)
    local file = assert(io.open(path, 'w'))
    file:write(text)
    file:close()
    assert.equal(0, os.execute(('chmod %s %s'):format(mode or '600', path)))
  end

  local function start(flags)
    write(token_file, GOOD_TOKEN .. '\n')
    running = server.start { directory = directory,
      flags = flags or { '--console-socket', socket, '--console-token-file', token_file } }
    return running
  end

  local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

  -- Runs a command of neap to its end: output and errors together, exit status.
  local function neap(...)
    local words = { quote(server.bin) }
    for _, word in ipairs { ... } do words[#words + 1] = quote(word) end
    local pipe = assert(io.popen(('env -u LD_PRELOAD timeout 60 %s 2>&1 </dev/null; echo "status $?"'):format(
      table.concat(words, ' '))))
    local text = pipe:read '*a'
    pipe:close()
    local output, status = text:match '^(.*)status (%d+)\n$'
    return output, tonumber(status)
  end

  local function eval(code, ...) return neap('eval', '--connect', 'unix:' .. socket, code, ...) end

  local function http_url() return 'http://127.0.0.1:' .. running.http_port end

  -- A session whose lines this test writes itself: writes lines, gives what came until the server closes, or until
  -- `enough` did; then it leaves.
  local function raw(lines, enough)
    local code = [[
import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.settimeout(60)
text = ''
try:
    s.sendall(sys.stdin.buffer.read())
except OSError:
    pass
try:
    while not sys.argv[2] or sys.argv[2] not in text:
        more = s.recv(65536)
        if not more:
            text += 'CLOSED'
            break
        text += more.decode()
except OSError:
    pass
sys.stdout.write(text)
]]
    write(directory .. '/client.py', code)
    write(directory .. '/lines', lines)
    local pipe = assert(io.popen(('env -u LD_PRELOAD python3 %s/client.py %s %s <%s/lines'):format(directory, socket,
      quote(enough or ''), directory)))
    local text = pipe:read '*a'
    pipe:close()
    return text
  end

  local function printed(path, text)
    return server.eventually(30, function()
      local file = io.open(path)
      local found = file and file:read '*a':find(text, 1, true)
      if file then file:close() end
      return found
    end)
  end

  -- No session is left.
  local function alone()
    return server.eventually(20, function()
      local threads = server.files(('/proc/%d/task'):format(running.pid), '')
      local sessions = 0
      for _, id in ipairs(threads) do
        local file = io.open(('/proc/%d/task/%s/comm'):format(running.pid, id))
        if file then
          if file:read '*l' == 'console' then sessions = sessions + 1 end
          file:close()
        end
      end
      return sessions == 0
    end)
  end

  it('is not there unless it is asked for', function()
    start {}
    local output, status = neap('eval', '--connect', http_url(), '--token', 'x', '1')
    assert.equal(1, status)
    assert.truthy(output:find('the server has no console (--console-token-file)', 1, true), output)
    assert.is_nil(io.open(socket))
  end)

  it('refuses what would not be private', function()
    write(token_file, TOKEN .. '\n')
    for _, case in ipairs {
      { '600', TOKEN, 'expected 16 to 510 printable characters' }, { '600', 'short', 'expected 16 to 510' },
      { '644', GOOD_TOKEN, 'only its owner may read (0600)' }, { '640', GOOD_TOKEN, 'only its owner may read' },
    } do
      write(token_file, case[2], case[1])
      local output, status = neap('server', '--l1-size-gb', '0.01', '--eviction-policy', 'LRU', '--port', '0',
        '--http-port', '0', '--console-token-file', token_file)
      assert.equal(2, status, output)
      assert.truthy(output:find(case[3], 1, true), output)
      assert.falsy(output:find(case[2], 1, true))
    end
    os.remove(token_file)
    assert.equal(0, os.execute('mkfifo -m 600 ' .. token_file)) -- which nobody writes
    local output, status = neap('server', '--l1-size-gb', '0.01', '--eviction-policy', 'LRU', '--port', '0',
      '--http-port', '0', '--console-token-file', token_file)
    assert.equal(2, status, output)
    assert.truthy(output:find('only its owner may read', 1, true), output)
    write(socket, 'a file')
    output, status = neap('server', '--l1-size-gb', '0.01', '--eviction-policy', 'LRU', '--port', '0',
      '--http-port', '0', '--console-socket', socket)
    assert.equal(1, status, output)
    assert.truthy(output:find('is there and is no socket', 1, true), output)
    assert.equal('a file', server.read(socket))
  end)

  it('is a socket for its user, and goes with the server', function()
    start()
    local pipe = assert(io.popen('stat -c "%a %F" ' .. socket))
    assert.equal('600 socket\n', pipe:read '*a')
    pipe:close()
    assert.equal('"ok"\n', (eval '"ok"'))
    assert.equal(0, running:stop(), running:output())
    assert.equal('', (io.popen('ls ' .. socket .. ' 2>/dev/null'):read '*a'))
  end)

  it('is replaced after a kill', function()
    start()
    running:kill()
    running:restart()
    running:await()
    assert.equal('"ok"\n', (eval '"ok"'))
    assert.equal(0, running:stop(), running:output())
  end)

  it('is at HTTP for who has the token', function()
    start()
    for _, word in ipairs { 'wrong', GOOD_TOKEN .. 'x', GOOD_TOKEN:sub(1, -2) } do
      local output, status = neap('eval', '--connect', http_url(), '--token', word, '1')
      assert.equal(1, status)
      assert.truthy(output:find("the token is not the server's (HTTP 401)", 1, true), output)
    end
    assert.equal('2\n', (neap('eval', '--connect', http_url(), '--token-file', token_file, '1 + 1')))
    local pipe = assert(io.popen(("curl -s -m 10 -o /dev/null -w '%%{http_code}' -H 'Authorization: Bearer %s' %s")
      :format(GOOD_TOKEN, http_url() .. '/console')))
    assert.equal('426', pipe:read '*a')
    pipe:close()
    assert.equal(0, running:stop(), running:output())
  end)

  it('looks at what the server has, and reads no payload of others', function()
    start()
    local load = workload.new(running)
    assert.equal(1, load:store(1, 272))
    assert.equal('true\n', (eval 'engine:status().l1.objects > 0 and #engine:chunks() > 0'))
    local output, status = eval([[
      local chunk = engine:chunks { limit = 1 }[1]
      return engine:load({ chunk.hash }, { model = chunk.model, tenant = chunk.tenant })]])
    assert.equal(1, status)
    assert.truthy(output:find("stores and loads for model and tenant 'neap-console' only", 1, true), output)
    output, status = eval 'engine:store(("x"):rep(256), 100, { model = "other" })'
    assert.equal(1, status, output)
    assert.equal('100\n', (eval 'engine:store(("x"):rep(256), 100) return engine:load(("x"):rep(256))[1]:size()'))
    output = eval 'engine:store(("x"):rep(256), 200)'
    assert.truthy(output:find("chunks of 'neap-console' have 100 bytes on this server", 1, true), output)
    assert.equal(1, load:hit_and_verify(1, 272))
    load:close()
    assert.equal(0, running:stop(), running:output())
  end)

  it('compares and changes policies that are built in, and explains', function()
    start()
    local load = workload.new(running)
    assert.equal(1, load:store(1, 272))
    assert.equal('"arc"\n', (eval 'engine:shadow "arc"'))
    assert.equal('"arc"\n"LRU"\n', (eval 'engine:shadows()[1].policy, engine:policy().policy'))
    assert.equal('"s3fifo"\n', (eval 'engine:switch("s3fifo", { trial = 0 })'))
    assert.equal(1, load:hit_and_verify(1, 272))
    local output, status = eval 'engine:switch "/tmp/x.lua"'
    assert.equal(1, status)
    assert.truthy(output:find('names a file, which a guarded session cannot reach; use neap ctl policy', 1, true))
    local code = [[
      local chunk = engine:chunks()[1]
      return engine:explain({ chunk.hash }, { model = chunk.model, tenant = chunk.tenant })[1].objects[1].l1]]
    assert.equal('"resident"\n', (eval(code)))
    load:close()
    assert.equal(0, running:stop(), running:output())
  end)

  it('refuses what reaches beyond it', function()
    start()
    for _, code in ipairs { 'io.open("/etc/hostname")', 'os.execute("true")', 'require "ffi"', 'require "neap.core"',
      'load("\\27LJ")()', 'neap.open { type = "mock" }', 'engine:attach { type = "mock" }',
      'engine.core.write_module("x", "return 1")',
      'engine:reload("x", { a = 1 })', 'getfenv(0)', 'debug.sethook()', 'jit.on()' } do
      local output, status = eval(code)
      assert.equal(1, status, code .. ': ' .. output)
    end
    local output, status = neap('eval', '--connect', 'unix:' .. socket, '--trusted', '1')
    assert.equal(2, status, output)
  end)

  it('stops loops, hunger and floods, and serves on', function()
    start()
    local load = workload.new(running)
    local output = eval 'while true do end'
    assert.truthy(output:find('stopped: ', 1, true), output)
    output = eval 'while true do pcall(function() while true do end end) end'
    assert.truthy(output:find('stopped: ', 1, true), output)
    output = eval 'local t = {} while true do t[#t + 1] = {} end'
    assert.truthy(output:find('not enough memory: a session may use 32 MiB', 1, true), output)
    output = eval 'while true do print(("x"):rep(1000)) end'
    assert.truthy(output:find('the rest of the output is left out', 1, true))
    assert.is_true(#output < 1200000)
    output = eval '("x"):rep(5000000)'
    assert.truthy(output:find('... (5000000 bytes)', 1, true))
    assert.equal(1, load:store(2, 272))
    assert.equal(1, load:hit_and_verify(2, 272))
    load:close()
    assert.truthy(alone())
    assert.equal(0, running:stop(), running:output())
  end)

  it('ends with a client that leaves in the middle', function()
    start()
    for _, code in ipairs { 'while true do end', 'neap.sleep(3600)', 'while true do print(1) end' } do
      local text = raw(('{"op":"eval","text":"print(1) %s"}\n'):format(code), '"output"')
      assert.truthy(text:find('"protocol":1', 1, true), text)
      assert.truthy(text:find('"output"', 1, true), text)
      assert.truthy(alone(), code)
    end
    assert.equal(0, running:stop(), running:output())
  end)

  it('is interrupted in the middle', function()
    start()
    local text = raw('{"op":"eval","text":"neap.sleep(3600)"}\n{"op":"interrupt"}\n', '"status"')
    assert.truthy(text:find('{"status":"failed","answer":"interrupted"}', 1, true), text)
  end)

  it('does not take lines that are none', function()
    start()
    for line, answer in pairs {
      ['hello\n'] = 'expected a line of JSON', ['{"op":"run"}\n'] = 'expected a line of JSON',
      ['{"op":"eval"}\n'] = 'text: expected a string', ['[]\n'] = 'expected a line of JSON', ['\n'] = 'expected a line',
      ['{"op":"eval","text":"1","kind":"x"}\n'] = 'kind: expected eval, script or complete',
      ['{"op":"eval","text":"neap.sleep(9)"}\n{"op":"eval","text":"1"}\n'] = 'an evaluation is under way',
      [('x'):rep(2 ^ 20 + 10)] = 'a line is too long',
    } do
      local text = raw(line)
      assert.truthy(text:find(answer, 1, true), line:sub(1, 60) .. text)
      assert.truthy(text:find('CLOSED', 1, true), text)
    end
    assert.truthy(alone())
    assert.equal(0, running:stop(), running:output())
  end)

  it('has sessions that share nothing, and no more than eight', function()
    start()
    local held = {}
    for i = 1, 8 do
      held[i] = assert(io.popen(("env -u LD_PRELOAD %s repl --connect unix:%s >%s/out%d 2>&1"):format(server.bin,
        socket, directory, i), 'w'))
      held[i]:setvbuf 'no'
      held[i]:write(('x = (x or 0) + %d\nprint("mine", x)\n'):format(i))
    end
    for i = 1, 8 do
      assert.truthy(printed(('%s/out%d'):format(directory, i), ('mine\t%d\n'):format(i)), i)
    end
    local output, status = eval '1'
    assert.equal(1, status)
    assert.truthy(output:find('all sessions are taken; try again later', 1, true), output)
    output = neap('eval', '--connect', http_url(), '--token-file', token_file, '1')
    assert.truthy(output:find('all sessions are taken; try again later', 1, true), output)
    held[1]:close()
    assert.truthy(server.eventually(20, function() return select(2, eval '1') == 0 end))
    assert.equal(0, running:stop(), running:output()) -- with seven of them still open
    for i = 2, 8 do held[i]:close() end
  end)

  it('does not keep a server from its end', function()
    start()
    local code = "'print(1) while true do end'"
    local sleeper = assert(io.popen(('env -u LD_PRELOAD %s eval --connect unix:%s %s >%s/out 2>&1'):format(server.bin,
      socket, code, directory), 'w'))
    assert.truthy(printed(directory .. '/out', '1'))
    assert.equal(0, running:stop(), running:output())
    sleeper:close()
    assert.same({}, running:segments())
  end)

  it('that is stuck in C keeps its seat, is said so, and the server ends all the same', function()
    running = nil
    write(token_file, GOOD_TOKEN .. '\n')
    running = server.start { directory = directory, env = { ASAN_OPTIONS = 'detect_leaks=0' },
      flags = { '--console-socket', socket } }
    local code = 'print(1) return (("a"):rep(100000)):find((".-"):rep(20) .. "b")'
    raw(('{"op":"eval","text":"%s"}\n'):format(code:gsub('"', '\\"')), '"output"')
    assert.truthy(server.eventually(30, function()
      return running:output():find('a console session does not come back', 1, true)
    end))
    local held = {}
    for i = 1, 7 do
      held[i] = assert(io.popen(('env -u LD_PRELOAD %s repl --connect unix:%s >%s/out%d 2>&1'):format(server.bin,
        socket, directory, i), 'w'))
      held[i]:setvbuf 'no'
      held[i]:write 'print "here"\n'
      assert.truthy(printed(('%s/out%d'):format(directory, i), 'here'), i)
    end
    local output = eval '1'
    assert.truthy(output:find('all sessions are taken; try again later', 1, true), output)
    assert.equal(0, running:stop(), running:output())
    assert.same({}, running:segments())
    for i = 1, 7 do held[i]:close() end
  end)
end)
