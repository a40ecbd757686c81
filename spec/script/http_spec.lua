-- SPDX-License-Identifier: MIT
--
-- neap.http against a server that does what it is told to, right and wrong.

local driver = require 'spec.support.adapter_driver'
local hook = require 'spec.support.hook'
local odd = require 'spec.support.odd_server'

describe('neap.http', function()
  local server, port

  setup(function()
    server = odd.start()
    port = server.port
  end)

  teardown(function()
    server:discard()
  end)

  local HEAD = [[
    local http = require 'neap.http'
    local client
    local function make(options)
      options = options or {}
      options.base = options.base or 'http://127.0.0.1:%s/'
      client = client or http.client(options)
      return client
    end
    local function told(response, code, message)
      if not response then return { code, message } end
      return { response.status, response.bytes, response.text }
    end]]

  -- What the body of a store hook puts into `report`, as JSON.
  local function run(body, data)
    local adapter = hook.open { head = HEAD:format(port), store = body .. ' return true' }
    local result = adapter:store(driver.key(1), data or 'payload')
    local json = adapter:status():match '"report":(.*),"is_healthy"'
    local healthy = not result or result == 'NEAP_OK'
    adapter:close()
    assert(healthy, result)
    return json
  end

  local function pattern(n)
    local bytes = {}
    for i = 0, n - 1 do
      bytes[#bytes + 1] = string.char(i * 7 % 251)
    end
    return table.concat(bytes)
  end

  describe('moves bodies', function()
    it('from a buffer and into a buffer', function()
      assert.equals('[200,7,true,"PUT","a, b"]', run [[
        local into = neap.buffer(7)
        local r = assert(make():request { method = 'PUT', path = 'echo', body = buf, into = into })
        report = { r.status, r.bytes, into:equals(buf), r.headers['x-method'], r.headers['x-twice'] }]])
    end)

    it('from and into parts of buffers', function()
      assert.equals('[3,"..ylo."]', run [[
        local into = neap.buffer(6):fill(46)
        local r = assert(make():request { method = 'PUT', path = 'echo', body = { buf, 2, 3 }, into = { into, 2, 3 } })
        report = { r.bytes, into:peek(0, 6) }]])
    end)

    it('of many megabytes', function()
      assert.equals('[16777216,true]', run([[
        local big = neap.buffer(2 ^ 24):fill(1):fill(2, 2 ^ 20, 12345):fill(3, 2 ^ 24 - 5)
        local into = neap.buffer(2 ^ 24)
        local r = assert(make():request { method = 'POST', path = 'echo', body = big, into = into })
        report = { r.bytes, into:equals(big) }]]))
    end)

    it('that are strings or empty', function()
      assert.equals('[[200,3,"abc"],[200,0,""],[200,0,""]]', run [[
        report = { told(make():request { method = 'PUT', path = 'echo', body = 'abc' }),
          told(make():request { method = 'PUT', path = 'echo', body = '' }),
          told(make():request { path = 'ok/0' }) }]])
    end)

    it('that come in chunks', function()
      assert.equals('[5,true]', run [[
        local into, other = neap.buffer(5), neap.buffer(5)
        local r = assert(make():request { path = 'chunked', into = into })
        assert(make():request { path = 'ok/5', into = other })
        report = { r.bytes, into:equals(other) }]])
    end)

    it('and says how long one is that is shorter than its buffer', function()
      assert.equals('[200,5,8,0]', run [[
        local into = neap.buffer(8)
        local r = assert(make():request { path = 'ok/5', into = into })
        report = { r.status, r.bytes, into:size(), into:peek(7, 1):byte() }]])
    end)

    it('but never beyond the end of a buffer', function()
      for _, path in ipairs { 'ok/9', 'ok/900000', 'endless' } do
        assert.matches('["EMSGSIZE","GET http://127.0.0.1:' .. port .. '/' .. path .. ': the response is longer than',
          run(('report = told(make():request { path = %q, into = neap.buffer(8) })'):format(path)), 1, true)
      end
      assert.matches('"EMSGSIZE"', run "report = told(make():request { path = 'ok/65537' })", 1, true)
      assert.equals('65536', run "report = #make():request { path = 'ok/65536' }.text")
    end)

    it('of failures into text, as much as a log wants', function()
      assert.equals('[404,5,"why: "]', run [[
        report = told(make():request { path = 'status/404', into = neap.buffer(1) })]])
      assert.equals('[500,65536]', run [[
        local r = make():request { path = 'status/500/100000', into = neap.buffer(1) }
        report = { r.status, #r.text }]])
    end)

    it('only where there are some: HEAD has a length', function()
      assert.equals('[200,0,123456789]', run [[
        local r = make():request { method = 'HEAD', path = 'size/123456789', into = neap.buffer(1) }
        report = { r.status, r.bytes, r.length }]])
    end)
  end)

  describe('sends', function()
    it('headers, its own and those of the request', function()
      local text = run [[
        local r = make { headers = { ['X-All'] = 1 } }:request { path = 'head', headers = { ['If-None-Match'] = '*' } }
        report = r.text]]
      assert.matches('X-All: 1\\r\\n', text, 1, true)
      assert.matches('If-None-Match: *', text, 1, true)
      assert.is_nil(text:find 'Expect')
    end)

    it('a name and a password', function()
      assert.matches('Authorization: Basic dXNlcjpzZWNyZXQ=', run [[
        report = make { user = 'user', password = 'secret' }:request { path = 'head' }.text]], 1, true)
    end)

    it('no header that a line break makes two', function()
      for _, header in ipairs { "['X-A'] = 'a\\r\\nX-B: b'", "['X A'] = 'b'", "['X:'] = 'b'", "[''] = 'b'" } do
        assert.matches('is not a header', run(([[
          report = select(2, pcall(make().request, make(), { path = 'head', headers = { %s } }))]]):format(header)))
      end
    end)

    it('over a unix socket', function()
      assert.equals('[200,2]', run(([[
        local r = make { base = 'http://any/', unix = %q }:request { path = 'ok/2' }
        report = { r.status, r.bytes }]]):format(server.socket)))
    end)
  end)

  describe('uses connections', function()
    it('again', function()
      assert.equals('0', run [[
        local first = tonumber(make():request { path = 'accepted' }.text)
        for _ = 1, 20 do assert(make():request { method = 'PUT', path = 'echo', body = buf }) end
        report = tonumber(make():request { path = 'accepted' }.text) - first]])
    end)

    it('anew when the server has closed them, and sends the body again', function()
      assert.equals('10', run [[
        report = 0
        for _ = 1, 10 do
          local into = neap.buffer(7)
          assert(make():request { method = 'PUT', path = 'once', body = buf, into = into })
          if into:equals(buf) then report = report + 1 end
        end]])
    end)

    it('no more than it may, and the requests wait in line', function()
      local adapter = hook.open { head = HEAD:format(port), store = [[
        local into = neap.buffer(#buf)
        assert(make { connections = 2 }:request { method = 'PUT', path = 'echo', body = buf, into = into })
        return into:equals(buf)]],
        lookup = "return tonumber(make { connections = 2 }:request { path = 'accepted' }.text)" }
      local _, before = adapter:lookup(driver.key(1))
      local ops = {}
      for n = 1, 24 do
        ops[n] = adapter:submit('store', { { key = driver.key(n), data = ('x'):rep(n * 1000) } })
      end
      for n = 1, 24 do
        assert.equals('NEAP_OK', ops[n]:wait():result())
      end
      local _, after = adapter:lookup(driver.key(1))
      adapter:close()
      assert.is_true(after - before <= 1)
    end)
  end)

  describe('follows redirects', function()
    it('not unless it is told to', function()
      assert.equals('[307,5,"moved"]', run "report = told(make():request { path = 'redirect/ok/3' })")
      assert.equals('[200,3]', run [[
        local r = make { redirects = 1 }:request { path = 'redirect/ok/3' }
        report = { r.status, #r.text }]])
    end)

    it('with the body', function()
      assert.equals('true', run [[
        local into = neap.buffer(7)
        assert(make { redirects = 2 }:request { method = 'PUT', path = 'redirect/redirect/echo', body = buf,
          into = into })
        report = into:equals(buf)]])
    end)

    it('in a circle only so often', function()
      assert.matches('["ELOOP","GET ', run "report = told(make { redirects = 5 }:request { path = 'circle' })", 1, true)
    end)
  end)

  describe('tells apart what goes wrong', function()
    for path, code in pairs {
      cut = 'ECONNRESET', ['chunk-cut'] = 'ECONNRESET', none = 'ECONNRESET', garbage = 'EPROTO',
      ['bad-length'] = 'EPROTO', headers = 'E', stall = 'ETIMEDOUT', silent = 'ETIMEDOUT',
    } do
      it(('when a server answers with %s'):format(path), function()
        local json = run(([[
          report = told(make():request { path = %q, into = neap.buffer(1000), timeout = 0.2 })]]):format(path))
        assert.matches('["' .. code, json, 1, true)
        assert.matches('GET http://127.0.0.1:', json, 1, true)
        -- and the next request is none the worse
        assert.equals('[200,2]', run(([[
          make():request { path = %q, into = neap.buffer(1000), timeout = 0.2 }
          local r = make():request { path = 'ok/2' }
          report = { r.status, r.bytes }]]):format(path)))
      end)
    end

    it('when there is no server', function()
      assert.matches('ECONNREFUSED', run [[
        report = told(make { base = 'http://127.0.0.1:1/' }:request { timeout = 5 })]])
      assert.matches('ECONNREFUSED', run(([[
        report = told(make { base = 'http://x/', unix = %q }:request {})]]):format(server.socket .. '-none')))
    end)

    it('when the URL is none', function()
      assert.matches('EPROTO', run "report = told(make { base = 'gopher://127.0.0.1/' }:request {})")
      assert.matches('EINVAL', run "report = told(make { base = 'http://127.0.0.1:port/' }:request {})")
      assert.matches('characters that must be escaped', run [[
        report = select(2, pcall(make().request, make(), { path = 'a b' }))]])
    end)

    it('when the arguments are wrong', function()
      for given, message in pairs {
        ["{ methud = 'PUT' }"] = "'methud' is unknown",
        ["{ method = 'put it' }"] = "'method' is 'put it', expected a word such as 'GET'",
        ["{ path = 5 }"] = "'path' is a number, expected a string",
        ["{ timeout = 0 }"] = "'timeout' is 0, expected 0.001 to 86400",
        ["{ into = buf }"] = 'buffer is read-only',
        ["{ into = 'text' }"] = 'neap.buffer expected, got string',
        ["{ body = { buf, 9 } }"] = 'offset is 9',
        ["{ into = { neap.buffer(4), 0, 5 } }"] = 'length is 5',
      } do
        assert.matches(message, run(('report = select(2, pcall(make().request, make(), %s))'):format(given)), 1, true)
      end
      for given, message in pairs {
        ["{ bse = '' }"] = "neap.http.client: 'bse' is unknown",
        ["{ tls = { verify = 1 } }"] = "tls: 'verify' is a number, expected a boolean",
        ["{ connections = 0 }"] = "'connections' is 0, expected 1 to 4096",
      } do
        assert.matches(message, run(('report = select(2, pcall(http.client, %s))'):format(given)), 1, true)
      end
    end)
  end)

  describe('is canceled', function()
    local function interrupted(end_it)
      local adapter = hook.open { head = HEAD:format(port), load = [[
        report = 'begun'
        make():request { path = 'stall', into = buf }
        return true]], lookup = "report = make():request { path = 'ok/3' }.bytes return report" }
      local op = end_it(adapter)
      local result = op:wait():result()
      assert.equals(3, (select(2, adapter:lookup(driver.key(1)))))
      adapter:close()
      return result
    end

    it('by its operation, at once, and lets go of the buffer', function()
      assert.equals('NEAP_ECANCELED', interrupted(function(adapter)
        local op = adapter:submit('load', { { key = driver.key(1), bytes = 1000 } })
        driver.eventually(function()
          return adapter:status():find 'begun'
        end)
        op:cancel()
        return op
      end))
    end)

    it('by the deadline of its operation', function()
      assert.equals('NEAP_ETIMEDOUT', interrupted(function(adapter)
        return adapter:submit('load', { { key = driver.key(1), bytes = 1000 } }, 300)
      end))
    end)
  end)

  it('has a hundred requests in flight', function()
    local adapter = hook.open { head = HEAD:format(port), load = [[
      local r = assert(make { connections = 8 }:request { path = 'ok/' .. #buf, into = buf })
      return r.bytes == #buf]] }
    local ops = {}
    for n = 1, 100 do
      ops[n] = adapter:submit('load', { { key = driver.key(n), bytes = n * 100 } })
    end
    for n = 1, 100 do
      assert.equals('NEAP_OK', ops[n]:wait():result())
      assert.equals(pattern(n * 100), ops[n]:data())
    end
    adapter:close()
  end)

  it('can be collected and closed at any time', function()
    assert.equals('"ok"', run [[
      for _ = 1, 20 do
        local one = http.client { base = 'http://127.0.0.1:1/' }
        assert(make():request { path = 'ok/1' })
        one:request {}
        one:close()
        assert(not pcall(one.request, one, {}))
        collectgarbage()
      end
      report = 'ok']])
  end)

  it('cannot be used while the module is loaded', function()
    assert.is_false(pcall(hook.open, { head = "require 'neap.http'.client {}" }))
  end)

  it('escapes text as one part of a path', function()
    assert.equals('"a%2Fb%20%40-._~%25"', run "report = http.escape('a/b @-._~%')")
  end)
end)
