-- SPDX-License-Identifier: MIT
--
-- neap repl, eval and run as a shell sees them: values, errors, exit status, budgets; and the prompt at a terminal.

local server = require 'spec.support.server'

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

describe('the prompt', function()
  local directory

  before_each(function() directory = server.directory() end)
  after_each(function() server.remove(directory) end)

  local function write(name, text)
    local path = directory .. '/' .. name
    local file = assert(io.open(path, 'w'))
    file:write(text)
    file:close()
    return path
  end

  -- What a command prints on stdout, on stderr, and its exit status. All words are quoted.
  local function run(input, ...)
    local words = { quote(server.bin) }
    for _, word in ipairs { ... } do words[#words + 1] = quote(word) end
    local errors, inputs = directory .. '/stderr', write('stdin', input)
    local pipe = assert(io.popen(("env -u LD_PRELOAD timeout 60 %s <%s 2>%s; echo \"status $?\""):format(
      table.concat(words, ' '), inputs, errors)))
    local text = pipe:read '*a'
    pipe:close()
    local output, status = text:match '^(.*)status (%d+)\n$'
    return output, server.read(errors), tonumber(status)
  end

  local function evaluates(code, expected, ...)
    local words = { ... }
    words[#words + 1] = code
    local output, errors, status = run('', 'eval', unpack(words))
    assert.equal('', errors)
    assert.equal(expected .. '\n', output)
    assert.equal(0, status)
  end

  local function fails(code, expected, ...)
    local words = { ... }
    words[#words + 1] = code
    local output, errors, status = run('', 'eval', unpack(words))
    assert.truthy(errors:find(expected, 1, true), errors)
    assert.equal(1, status)
    return output, errors
  end

  describe('evaluates', function()
    it('expressions, statements and several values', function()
      evaluates('2 ^ 10', '1024')
      evaluates('local x = 3 return x, nil, "a\\n\\0"', '3\nnil\n"a\\n\\000"')
    end)

    it('what awaits', function() evaluates('neap.sleep(0.01) return neap.now() > 0', 'true') end)

    it('tables sorted, cut and with their cycles', function()
      evaluates('local t = { 3, 2, b = 1, a = { "x" }, ["a b"] = {} } t.t = t return t',
        '{ 3, 2, a = { "x" }, ["a b"] = {}, b = 1, t = <cycle> }')
      evaluates('{ { { { { { { {} } } } } } } }', '{ { { { { { {...} } } } } } }')
      local output = run('', 'eval', 'local t = {} for i = 1, 1000 do t[i] = i end return t')
      assert.truthy(output:find('... 936 more', 1, true))
    end)

    it('buffers as a view of their first bytes', function()
      local output = run('', 'eval', 'neap.buffer(100000):poke(0, "head")')
      assert.truthy(output:find('neap.buffer, 100000 bytes\n', 1, true))
      assert.truthy(output:find('00000000  68 65 61 64 00', 1, true))
      assert.truthy(output:find('|head............|', 1, true))
      assert.is_true(#output < 1000)
    end)

    it('to JSON', function()
      evaluates('{ a = { 1, 2, {} } }, nil, "x"', '{"a":[1,2,{}]}\nnull\n"x"', '--json')
      fails('print', 'a function has no JSON form', '--json')
    end)

    it('errors with their line and a traceback of what was called', function()
      local _, errors = fails('error "no"', 'eval:1: no')
      assert.falsy(errors:find('traceback', 1, true))
      _, errors = fails('local function f() error "deep" end\nf() return', 'eval:1: deep')
      assert.truthy(errors:find("in function 'f'", 1, true))
      assert.falsy(errors:find('neap/console', 1, true))
      fails('x +', "unexpected symbol near '<eof>'")
      fails('1 2', "eval:1: ")
    end)
  end)

  it('ends with 2 and a reason when the command line is wrong', function()
    for _, words in ipairs { { 'eval' }, { 'eval', '--trustd', '1' }, { 'eval', '1', '2' }, { 'run' },
      { 'eval', '--trusted', '--guarded', '1' }, { 'eval', '--memory', '1', '1' }, { 'repl', 'word' },
      { 'eval', '--connect', 'ftp://x', '1' }, { 'eval', '--token', 'x', '1' }, { 'eval', '--chunk-size', '1.5', '1' },
      { 'eval', '--eviction-policy', 'LRUU', '1' }, { 'eval', '--l2-adapter', '{"type":"nope"}', '1' } } do
      local _, errors, status = run('', unpack(words))
      assert.equal(2, status, errors)
      assert.truthy(errors:find('(see neap help ' .. words[1] .. ')', 1, true), errors)
    end
  end)

  describe('runs a script', function()
    it('with its arguments, its exit status and modules beside it', function()
      write('beside.lua', 'return { name = "beside" }')
      local path = write('script.lua', '#!/usr/bin/env neap run\nprint(select("#", ...), (...), arg[2],'
        .. ' require("beside").name)\nneap.sleep(0.01)\nreturn engine:status().chunk_tokens')
      local output, errors, status = run('', 'run', '--chunk-size', '32', path, '--json', 'b')
      assert.equal('', errors)
      assert.equal('2\t--json\tb\tbeside\n32\n', output)
      assert.equal(0, status)
    end)

    it('and tells file and line of what it raises', function()
      local path = write('script.lua', '\n\nerror "here"')
      local _, errors, status = run('', 'run', path)
      assert.truthy(errors:find('script.lua:3: here', 1, true), errors)
      assert.equal(1, status)
      _, errors, status = run('', 'run', directory .. '/missing.lua')
      assert.truthy(errors:find('missing.lua: No such file', 1, true))
      assert.equal(1, status)
    end)

    it('from the standard input', function() assert.equal('7\n', (run('print(3 + 4)', 'run', '-'))) end)
  end)

  describe('reads a pipe', function()
    it('line by line, chunks over several lines, without a prompt', function()
      local input = 'x = {\n1,\n\n2 }\n#x\nfor i = 1, 2 do\n  print(i)\nend\n\n"a" ..\n"b"\n'
      local output, errors, status = run(input, 'repl')
      assert.equal('', errors)
      assert.equal('2\n1\n2\n"ab"\n', output)
      assert.equal(0, status)
    end)

    it('and ends at the first error with 1', function()
      local output, errors, status = run('1\nerror "x"\n2\n', 'repl')
      assert.equal('1\n', output)
      assert.equal('prompt:1: x\n', errors)
      assert.equal(1, status)
      output, errors, status = run('for i = 1, 2 do\n', 'repl')
      assert.equal('', output)
      assert.equal('the input ends before the code is complete\n', errors)
      assert.equal(1, status)
    end)

    it('with its commands', function()
      local path = write('script.lua', 'loaded = 42')
      local input = ('.load %s\nloaded\n.time loaded + 1\n.help values\n.quit\nerror()\n'):format(path)
      local output, errors, status = run(input, 'repl')
      assert.equal('', errors)
      assert.truthy(output:match '^42\n43\n%d+%.%d+ ms\nTables are shown sorted')
      assert.equal(0, status)
      output, errors, status = run('.lod x\n', 'repl')
      assert.equal('', output)
      assert.truthy(errors:find("did you mean '.load'?", 1, true))
      assert.equal(1, status)
    end)

    it('and edits what was typed', function()
      local editor = write('editor.sh', '#!/bin/sh\nsed -i s/20/40/ "$1"\n')
      os.execute('chmod +x ' .. editor)
      local input = 'x = 20 + 2\n.edit\nx\n'
      local pipe = assert(io.popen(('env -u LD_PRELOAD VISUAL=%s %s repl <%s'):format(editor, server.bin,
        write('stdin', input))))
      assert.equal('42\n', pipe:read '*a')
      pipe:close()
    end)
  end)

  describe('drives its engine', function()
    it('by every example of the help', function()
      local code = {}
      for _, topic in ipairs { 'start', 'engine', 'store', 'adapters', 'live', 'values' } do
        local help = run('.help ' .. topic .. '\n', 'repl')
        local going = false
        for line in help:gmatch '([^\n]*)\n' do
          local typed = line:match '^  > (.*)$'
          if typed then code[#code + 1] = typed:gsub('   +%w.*$', '') end
          if not typed and going then code[#code + 1] = line end
          going = (typed and typed:find('[=[', 1, true) or going) and not line:find(']=]', 1, true)
        end
      end
      assert.is_true(#code > 20)
      local output, errors, status = run(table.concat(code, '\n') .. '\n', 'repl')
      assert.equal('', errors)
      assert.equal(0, status)
      assert.truthy(output:find('{ chunks = 250, hit = 250, tokens = 4000 }', 1, true))
      assert.truthy(output:find('"shelf"', 1, true))
    end)

    it('with stores and lookups of prefixes', function()
      local path = write('drive.lua', [[
        local text = ('abcdefgh'):rep(20)
        local buffer = neap.buffer(1000):fill(7)
        local stored = engine:store(text, buffer, { model = 'm', tenant = 't', world = 2 })
        assert(stored.chunks == 10 and stored.stored == 20 and stored.present == 0)
        assert(engine:store(text, buffer, { model = 'm', tenant = 't', world = 2 }).present == 20)
        local of = { model = 'm', tenant = 't', world = 2 }
        assert(engine:lookup(text, of).hit == 10)
        assert(engine:lookup(text:sub(1, 64) .. 'X' .. text:sub(66), of).hit == 4)
        local buffers, hit = engine:load(text, of)
        assert(hit.hit == 10 and buffers[10]:peek(0, 100) == ('\7'):rep(100))
        local chunks = engine:chunks { model = 'm', limit = 100 }
        assert(#chunks == 20 and chunks[1].tenant == 't' and chunks[1].bytes == 100)
        assert(engine:lookup({ (engine:chunks { limit = 1 })[1].hash }, of).chunks == 1)
        assert(engine:clear() == 20 and engine:lookup(text, of).hit == 0)
        print 'done']])
      local output, errors = run('', 'run', '--chunk-size', '16', path)
      assert.equal('done\n', output, errors)
    end)

    it('and says which argument is wrong', function()
      fails('engine:lookup("short")', '5 tokens are no complete chunk: one has 16')
      fails('engine:lookup({ "abc" })', "64 hexadecimal digits (lower case), got 'abc'")
      fails('engine:lookup(("x"):rep(16), { modle = 1 })',
        'unknown option "modle"; expected one of: model, tenant, world')
      fails('engine:store(("x"):rep(16), 1) engine:lookup(("x"):rep(16), { model = "neap-consol" })',
        "did you mean 'neap-console'?")
      fails('engine:store(("x"):rep(32), "abc")', '3 bytes cannot be cut evenly among 2 chunks')
      fails('engine:store({ 1.5 }, 1)', '1 token are no complete chunk')
      fails('local t = {} for i = 1, 16 do t[i] = -1 end engine:store(t, 1)', 'token 1 is -1')
      fails('error((select(3, engine:attach { type = "fss" })))', "did you mean 'fs'?")
      fails('engine:switch("arc", { trail = 1 })', 'unknown option "trail"; expected one of: bound, trial, warm')
      fails('engine:explain("short")', '5 tokens are no complete chunk')
      fails('engine:chunks { limit = 0 }', 'expected a limit of 1 to 10000')
    end)

    it('and tries policies beside and in the place of the live one', function()
      local path = write('mine.lua', assert(server.read 'lua/neap/policies/lru.lua'))
      local script = write('live.lua', ([[
        local mine, text = '%s', ('x'):rep(160)
        assert(engine:policy().policy == 'LRU')
        assert(engine:shadow(mine) == mine and engine:shadow('arc', { warm = false }) == 'arc')
        local shadows = engine:shadows()
        assert(#shadows == 2 and shadows[1].policy == mine and shadows[2].state ~= 'failed')
        print((select(2, engine:shadow 'arc')))
        assert(engine:unshadow(0) == '0' and #engine:shadows() == 1)
        print((select(2, engine:unshadow 'lru')))
        engine:store(text, 100)
        assert(engine:switch(mine, { trial = 60 }) == mine)
        assert(engine:policy().trial.reference.policy == 'LRU' and engine:policy().residents == 10)
        print((select(2, engine:switch 'lruu')))
        print((select(3, engine:switch('arc', { bound = 2 }))))
        assert(engine:policy().policy == mine and engine:lookup(text).hit == 10)
        local chunks = engine:explain(text)
        assert(#chunks == 10 and chunks[10].objects[1].l1 == 'resident', chunks[10].objects[1].why)
        assert(engine:explain({ chunks[3].hash })[1].objects[1].why == chunks[3].objects[1].why)
        engine:clear()
        print((engine:explain(text)[1].objects[1].why:gsub('%%d+%%.%%d', 'N')))
        print(engine:explain(('y'):rep(16))[1].objects[1].why)]]):format(path))
      local output, errors = run('', 'run', '--chunk-size', '16', script)
      assert.equal('EEXIST\nENOENT\nEINVAL\nbound is 2; expected a share from 0 to 1\ncleared N s ago\nnever_seen\n',
        output, errors)
    end)

    it('and leaves no modules that were defined behind', function()
      local path = write('define.lua', [[
        local text = "return { A = require('neap').adapter { store = print, lookup = print, load = print } }"
        assert(engine:define('one', text) and engine:define('one', text))
        return engine.core.write_module('two', text)]])
      local output, errors = run('', 'run', path)
      local scratch = output:match '"(/tmp/neap%-prompt%-%w+)/two.lua"'
      assert.truthy(scratch, errors)
      assert.is_nil(io.open(scratch .. '/one.lua'))
    end)
  end)

  describe('tries policies', function()
    local trace = 'tests/data/mooncake_conversation.jsonl.xz'

    it('with the figures of neap replay', function()
      local code = [[
        local runs = policy.replay { trace = '%s', policies = 'lru,s3fifo:small=0.2', sizes = '5%%', requests = 500 }
        for _, run in ipairs(runs) do print(run.policy, run.prefix_hit_ratio, run.evictions, run.size_chunks) end
        return runs]]
      local output, errors = run('', 'eval', code:format(trace))
      assert.equal('', errors)
      local lines = run('', 'replay', trace, '--policy', 'lru,s3fifo:small=0.2', '--size', '5%', '--requests', '500',
        '--json')
      for line in lines:gmatch '[^\n]+' do
        local function field(name) return tonumber(line:match('"' .. name .. '":%s*([%d.e-]+)')) end
        local expected = ('%s\t%.14g\t%d\t%d\n'):format(line:match '"policy":%s*"([^"]+)"', field 'prefix_hit_ratio',
          field 'evictions', field 'size_chunks')
        assert.truthy(output:find(expected, 1, true), expected .. output)
      end
      assert.truthy(output:find('size         chunks  policy', 1, true))
    end)

    it('and plots them', function()
      local code = 'policy.compare { trace = "%s", policies = "lru,arc", requests = 300 }'
      local output = run('', 'eval', code:format(trace))
      assert.truthy(output:find('prefix hit ratio over share of the distinct chunks', 1, true))
      assert.truthy(output:find('25%%\n'))
    end)

    it('as they are in their file at that moment', function()
      local path = write('mine.lua', 'this is no Lua')
      fails(('local ok, code, message = policy.check "%s" error(message)'):format(path), 'mine.lua:1:')
      write('mine.lua', assert(server.read 'lua/neap/policies/lru.lua'))
      evaluates(('(policy.check "%s")'):format(path), 'true')
    end)

    it('and says what is wrong', function()
      fails('policy.replay { trace = "x", policy = "lru" }', 'eval:1: policy.replay: unknown option "policy"')
      fails('policy.replay { trace = "nowhere.jsonl" }', 'nowhere.jsonl')
      fails(('policy.replay { trace = "%s", policies = "lruu" }'):format(trace), "did you mean 'LRU'?")
      fails(('policy.replay { trace = "%s", sizes = "x" }'):format(trace), "'x'")
      fails(('policy.replay { trace = "%s", policies = {} }'):format(trace), 'policies: got 0, expected 1 to 16')
      fails('policy.names()', "attempt to index global 'policy'", '--guarded')
    end)
  end)

  describe('has budgets', function()
    it('of time', function()
      fails('while true do end', 'stopped: an evaluation may take 0.2 s here', '--time', '0.2')
      fails('while true do pcall(error) end', 'stopped: an evaluation may take 0.2 s here', '--time', '0.2')
      fails('neap.sleep(60)', 'stopped: an evaluation may take 0.2 s here', '--time', '0.2')
    end)

    it('of memory, and goes on afterwards', function()
      fails('local t = {} while true do t[#t + 1] = {} end', 'not enough memory: a session may use 8 MiB', '--memory',
        '8M')
      fails('local s = "x" while true do s = s .. s end', 'not enough memory', '--memory', '8M')
      evaluates('neap.buffer(2 ^ 30) == nil, select(2, neap.buffer(2 ^ 30))', 'true\n"ENOMEM"\n'
        .. '"no memory for a buffer of 1073741824 bytes; buffers of this script hold 0"', '--memory', '8M')
    end)
  end)

  describe('when guarded', function()
    for what, code in pairs {
      files = 'io.open("/etc/hostname")', processes = 'os.execute("true")', environment = 'os.getenv("HOME")',
      ffi = 'require "ffi"', modules = 'require "neap.core"', dofile = 'dofile("/etc/hostname")',
      globals = 'getfenv(0)', compiler = 'jit.on()', registry = 'debug.getregistry()', packages = 'package.loaded',
      bytecode = 'assert(load("\\27LJ"))', dump = '(""):dump(print)', sockets = 'neap.net.connect("127.0.0.1", 1)',
      stores = 'neap.open { type = "mock" }', attach = 'engine:attach { type = "mock" }',
      policies = 'engine:switch "lua/neap/policies/lru.lua"', shadows = 'engine:shadow "./x.so"',
      definitions = 'engine:define("x", "return 1")', ['files below'] = 'engine.core.write_module("x", "")',
    } do
      it('cannot reach ' .. what, function()
        local _, _, status = run('', 'eval', '--guarded', code)
        assert.equal(1, status)
        -- and the same words mean something where they may
        if what == 'files' then evaluates('io.open("/etc/hostname") ~= nil', 'true') end
      end)
    end

    it('has what does no harm', function()
      evaluates('("x"):rep(3), math.max(1, 2), os.time() > 0, #neap.buffer(3), bit.bor(1, 2)',
        '"xxx"\n2\ntrue\n3\n3', '--guarded')
    end)
  end)

  describe('at a terminal', function()
    local function converse(steps, ...)
      local words = { quote(server.bin), 'repl' }
      for _, word in ipairs { ... } do words[#words + 1] = quote(word) end
      -- libedit keeps the names of the functions that were added to it, which a leak checker takes for a loss.
      local pipe = assert(io.popen(('env -u LD_PRELOAD ASAN_OPTIONS=detect_leaks=0 TERM=xterm NO_COLOR=1'
        .. ' XDG_STATE_HOME=%s timeout 120 python3 spec/support/terminal.py %s %s 2>&1; echo "status $?"'):format(
        directory, write('steps', table.concat(steps, '\n') .. '\n'), table.concat(words, ' '))))
      local text = pipe:read '*a'
      pipe:close()
      assert.equal('0', text:match 'status (%d+)\n$', text)
      return text
    end

    it('is told of what is not complete, and completes what is begun', function()
      converse { 'expect neap> ', 'send 40 +\\r', 'expect   ..> ', 'send 2\\r', 'expect 42', 'expect neap> ',
        'send engine:sta\\t)', 'expect engine:sta', 'expect tus(', 'send .l1.pool_bytes\\r', 'expect 67108864',
        'expect neap> ', 'send engine:t\\t\\t', 'expect tenants(', 'expect tiers(', 'press \\x03 ^C\\r\\n',
        'send .q\\t\\r', 'expect .q' }
    end)

    it('stops what runs at Ctrl-C, and gives up what is typed', function()
      converse { 'expect neap> ', 'send 1 + + ', 'press \\x03 ^C\\r\\n',
        'send for i = 1, 2 do\\r', 'expect   ..> ', 'press \\x03 ^C\\r\\n',
        'send print("begun") while true do end\\r', 'expect begun\\r\\n', 'send \\x03', 'expect interrupted',
        'expect neap> ', 'send print("begun") while true do pcall(function() while true do end end) end\\r',
        'expect begun\\r\\n', 'send \\x03', 'expect interrupted', 'expect neap> ',
        'send print("begun") neap.sleep(3600)\\r', 'expect begun\\r\\n', 'send \\x03', 'expect interrupted',
        'expect neap> ', 'send 6 * 7\\r', 'expect 42', 'send .quit\\r' }
    end)

    it('ends at the third Ctrl-C where code cannot be stopped', function()
      local ok, text = pcall(converse, { 'expect neap> ', 'send print("begun") while true do end\\r',
        'expect begun\\r\\n', 'press \\x03 cannot be stopped', 'send \\x03' }, '--trusted')
      assert.is_false(ok)
      assert.truthy(tostring(text):find('status 130', 1, true), tostring(text))
    end)

    it('remembers lines, for its user only', function()
      converse { 'expect neap> ', 'send 40 + 3\\r', 'expect 43', 'send .quit\\r' }
      local pipe = assert(io.popen(('stat -c %%a %s/neap/history'):format(directory)))
      assert.equal('600\n', pipe:read '*a')
      pipe:close()
      converse { 'expect neap> ', 'send \\x1b[A\\x1b[A', 'expect 40 + 3', 'send  + 1\\r', 'expect 44', 'send .quit\\r' }
      converse({ 'expect neap> ', 'send \\x1b[A7\\r', 'expect 7\\r\\n', 'send .quit\\r' }, '--no-history')
    end)
  end)
end)
