-- SPDX-License-Identifier: MIT
--
-- The policy lab on a server that answers without a pause: shadows predict, policies are switched, fail and are rolled
-- back, misses are explained, traffic is recorded. Nothing fails, and nothing is lost on the way.

local json = require 'spec.support.json'
local http_get = require 'spec.support.http_get'
local pattern = require 'examples.worker.pattern'
local server = require 'spec.support.server'
local workload = require 'spec.support.workload'

local CHUNK = workload.CHUNK
local SWITCHES = 10


describe('the policy of a running server', function()
  local directory, running, work, loaders

  before_each(function()
    directory = server.directory()
    loaders = {}
  end)

  after_each(function()
    for _, pid in ipairs(loaders) do os.execute('kill -9 ' .. pid .. ' 2>/dev/null') end
    if work then work:close() end
    if running then running:discard() end
    work, running = nil, nil
    os.execute("rm -rf '" .. directory .. "'")
  end)

  local function start(options)
    running = server.start(options)
  end

  -- Runs `neap ctl`; its output and whether it succeeded.
  local function neap(words)
    local file = directory .. '/said'
    local status = os.execute(("%s %s >'%s' 2>&1"):format(server.bin, words, file))
    return server.read(file), status == 0
  end

  local function ctl(words)
    return neap(('ctl --url http://127.0.0.1:%d %s'):format(running.http_port, words))
  end

  local function done(words)
    local said, good = ctl(words)
    assert.is_true(good, words .. ': ' .. said)
    return said
  end

  local function policy() return assert(http_get.get_json(running, '/policy')) end

  local function write(name, text)
    local path = directory .. '/' .. name
    local file = assert(io.open(path .. '~', 'w'))
    file:write(text)
    file:close()
    assert(os.rename(path .. '~', path))
    return path
  end

  local function shipped(name, from, to)
    local text = server.read('lua/neap/policies/' .. name)
    if from then
      local changed, count = text:gsub(from, to)
      assert.is_true(count > 0)
      text = changed
    end
    return text
  end

  -- Prompts that come back, some often; as many chunks of each as there happen to be asked for.
  local function play(rounds, seed)
    math.randomseed(seed)
    for _ = 1, rounds do
      local prompt = math.floor(40 * math.random() ^ 2.5) + 1
      local chunks = 1 + math.random(1, 7)
      if work:hit_and_verify(prompt, chunks * CHUNK) < chunks then work:store(prompt, chunks * CHUNK) end
    end
  end

  it('is predicted by a shadow of it, and compared with others', function()
    start { l1_size_gb = 0.0625, flags = { '--policy-window', '1000' } }
    work = workload.new(running, { hidden = 1024 })
    done 'policy shadow add lru'
    done 'policy shadow add arc'
    done('policy shadow add ' .. 'lua/neap/policies/lru.lua')
    play(800, 5)
    local now
    assert(server.eventually(20, function()
      now = policy()
      return now.shadows[1].total.requests >= 800 and now.shadows[3].total.requests >= 800
    end), 'the shadows do not keep up')
    local lru, lua = now.shadows[1], now.shadows[3]
    assert.equal('running', lru.state, lru.why)
    assert.equal('running', lua.state, lua.why)
    assert.is_true(lru.full and lru.evictions > 0)
    assert.is_true(lru.total.actual_l1_prefix_hit_ratio > 0.2)
    assert.near(lru.total.actual_l1_prefix_hit_ratio, lru.total.prefix_hit_ratio, 0.02)
    assert.equal(lru.total.prefix_hit_ratio, lua.total.prefix_hit_ratio) -- one algorithm, two languages
    assert.equal(0, lru.dropped_requests)
    assert.is_true(lru.cpu_seconds > 0)
    assert.equal(now.total.actual_l1_prefix_hit_ratio, lru.total.actual_l1_prefix_hit_ratio)

    local table_said = done 'policy shadow list'
    assert.matches('PREDICTED', table_said)
    assert.matches('\nlru +running', table_said)
    local _, metrics = http_get.get(running, '/metrics')
    assert.matches('neap_shadow_prefix_hit_ratio{policy="arc"} 0%.%d+', metrics)
    assert.matches('neap_policy_up{policy="LRU"} 1\n', metrics)
    assert.matches('neap_misses_total{reason="evicted"} %d+', metrics)
    local seen = json.decode((neap(('top --once --json --interval 0.1 --url http://127.0.0.1:%d')
      :format(running.http_port))))
    assert.equal('LRU', seen.policy.policy)
    assert.equal(3, #seen.policy.shadows)
    local frame = neap(('top --once --interval 0.1 --url http://127.0.0.1:%d'):format(running.http_port))
    assert.matches('\nLRU +live +%d+%.%d %%', frame)
    assert.matches('\narc +running +%d+%.%d %% +%d+%.%d %%', frame)
    assert.matches('missed +.*evicted %d+', frame)
    assert.is_nil(frame:find('\27', 1, true)) -- no terminal, no escapes
  end)

  it('is switched under load without a failed request and without losing an object', function()
    start { l1_size_gb = 0.0625 }
    for i = 1, 2 do
      local command = ("exec luajit spec/support/churn.lua %s '%s/stop' %d"):format(running.endpoint, directory, i)
      loaders[i] = server.spawn({ '/bin/sh', '-c', command }, ('%s/churn-%d'):format(directory, i))
    end
    assert(server.eventually(60, function() return policy().total.requests > 50 end), 'no traffic')
    local specs = { 'arc', 's3fifo', 'lua/neap/policies/lru.lua', 'sieve', 'isolated:lru' }
    for i = 1, SWITCHES do
      local before = policy().total.requests
      done(('policy switch %s --trial 0'):format(specs[i % #specs + 1]))
      assert(server.eventually(20, function() return policy().total.requests > before + 20 end), 'traffic has stopped')
      assert.is_false(policy().out, policy().why)
    end
    assert.equal(SWITCHES, #policy().changes)
    assert(io.open(directory .. '/stop', 'w')):close()
    for i = 1, 2 do
      local path, line = ('%s/churn-%d'):format(directory, i), nil
      server.eventually(60, function()
        line = server.read(path):match 'requests [^\n]*\n'
        return line
      end)
      assert(line, 'no result: ' .. server.read(path))
      assert.matches('^requests %d+ failed 0 ', line)
    end

    -- Nothing is evicted while nothing is stored, so a switch keeps what there is.
    done 'policy switch lru --trial 0' -- which keeps what was just stored; ARC, just begun, lets go of it first
    work = workload.new(running, { hidden = 512 })
    local held, sum = {}, 0
    for prompt = 1, 5 do assert.equal(4, work:store(3500 + prompt, 4 * CHUNK)) end
    for prompt = 1, 5 do
      held[prompt] = work:hit_and_verify(3500 + prompt, 4 * CHUNK)
      sum = sum + held[prompt]
    end
    assert.is_true(sum > 0)
    local residents = policy().residents
    for i = 1, SWITCHES do done(('policy switch %s --trial 0'):format(specs[i % #specs + 1])) end
    assert.equal(residents, policy().residents)
    for prompt = 1, 5 do assert.equal(held[prompt], work:hit_and_verify(3500 + prompt, 4 * CHUNK)) end
  end)

  it('comes back when the new one fails, and says which line it was', function()
    start { l1_size_gb = 0.0625 }
    work = workload.new(running, { hidden = 1024 })
    play(100, 3)
    local path = write('bad.lua', shipped('lru.lua', 'return order:pop%(tenant%)', "error 'out of ideas'"))
    done('policy switch ' .. path)
    assert.equal(path, policy().policy)
    assert.is_true(type(policy().trial) == 'table')
    play(200, 4)
    assert(server.eventually(20, function() return policy().policy == 'LRU' end), 'it was not rolled back')
    local now = policy()
    assert.is_false(now.out)
    assert.equal('roll-back', now.changes[1].how)
    assert.equal('rolled back', now.changes[2].outcome)
    assert.matches('bad%.lua:%d+: out of ideas', now.changes[2].why)
    assert.matches('bad%.lua:%d+: out of ideas', done 'policy')

    -- As a shadow it only ends itself.
    done('policy shadow add ' .. path)
    play(50, 6)
    assert(server.eventually(20, function() return policy().shadows[1].state == 'failed' end))
    assert.matches('bad%.lua:%d+: out of ideas', policy().shadows[1].why)
    assert.equal('LRU', policy().policy)
    done('policy shadow remove 0')
  end)

  it('is loaded again when its file is saved', function()
    start { l1_size_gb = 0.0625, flags = { '--watch' } }
    work = workload.new(running, { hidden = 1024 })
    local path = write('mine.lua', shipped 'lru.lua')
    done('policy switch --trial 0 ' .. path)
    done('policy shadow add --cold ' .. path)
    assert(server.eventually(20, function() return select(2, running:output():gsub('watching', '')) == 2 end))
    write('mine.lua', shipped('lru.lua') .. '\n-- saved\n')
    assert(server.eventually(20, function()
      local log = running:output()
      return log:find("policy '[^']+' runs the code that was saved") and
        log:find "shadow '[^']+' runs the code that was saved"
    end), 'the saved file was not noticed')
    assert.equal('reload', policy().changes[1].how)
    write('mine.lua', 'this is no Lua')
    assert(server.eventually(20, function()
      return running:output():find "policy '[^']+' goes on with its old code: [^\n]*mine%.lua:1"
    end), 'the broken file was not reported')
    assert.is_false(policy().out)
    play(50, 8)
  end)

  it('explains where chunks are and what became of them', function()
    start { l1_size_gb = 0.0625, l2 = { '{"type":"mock","max_size_gb":1,"mock_bandwidth_gb":10,"name":"below"}' } }
    work = workload.new(running, { hidden = 1024 })
    for prompt = 1, 30 do work:store(prompt, 8 * CHUNK) end
    local function explain(prompt)
      local tokens = pattern.tokens(prompt * 7, 8 * CHUNK)
      local path = write('tokens', table.concat(tokens, ' '))
      return json.decode(done('--json explain --tokens ' .. path)), done('explain --tokens ' .. path)
    end
    local function settled(prompt) -- its way down to the second level takes a lease
      return assert(server.eventually(10, function()
        local object = explain(prompt).chunks[1].objects[1]
        return object.leases == 0 and object
      end))
    end
    local newest = settled(30)
    assert.equal('resident', newest.l1)
    assert.matches('^kept; used %d+ times', newest.why)
    -- The first prompt may have been held until now by its way down, which a slow machine takes long for.
    for prompt = 31, 34 do work:store(prompt, 8 * CHUNK) end
    settled(34)
    local oldest, said = explain(1)
    assert.equal(8, #oldest.chunks)
    local object = oldest.chunks[8].objects[1]
    assert.equal('absent', object.l1)
    assert.same({ 'below' }, object.tiers)
    assert.equal('evicted', object.fate.what)
    assert.equal('LRU', object.fate.policy)
    assert.is_true(object.fate.inserted_bytes_since > 2 ^ 20)
    assert.is_true(object.fate.needed_l1_bytes > object.fate.inserted_bytes_since)
    assert.matches('evicted %d+%.%d s ago by LRU; %d+%.%d MiB came into L1 since', said)
    local unknown = explain(999).chunks[1].objects[1]
    assert.equal('never_seen', unknown.why)
    local by_hash = json.decode(done('--json explain --hash ' .. oldest.chunks[8].hash))
    assert.equal('evicted', by_hash.chunks[1].objects[1].fate.what)
    running:connect():clear(false)
    assert.equal('cleared', explain(34).chunks[1].objects[1].fate.what)
  end)

  it('counts misses by what became of the chunk', function()
    start { l1_size_gb = 0.0625 }
    work = workload.new(running, { hidden = 1024 })
    local function missed(reason) return assert(tonumber(policy().missed_chunks[reason])) end
    assert.equal(0, work:hit(1, 8 * CHUNK))
    assert.equal(8, missed 'never_seen')
    work:store(1, 8 * CHUNK)
    assert.equal(8, work:hit(1, 8 * CHUNK))
    for prompt = 2, 30 do work:store(prompt, 8 * CHUNK) end
    local hit = work:hit(1, 8 * CHUNK)
    assert.is_true(hit < 8)
    assert.equal(8 - hit, missed 'evicted')
    running:connect():clear(false)
    assert.equal(0, work:hit(30, 8 * CHUNK))
    assert.equal(8, missed 'cleared')
    assert.equal(8, missed 'never_seen')
  end)

  it('records what is asked for, salted, for a replay', function()
    start { l1_size_gb = 0.0625 }
    work = workload.new(running, { hidden = 1024 })
    play(300, 9)
    local status
    assert(server.eventually(10, function()
      status = json.decode(done 'record status --json')
      return status.requests > 300
    end))
    local path = directory .. '/traffic.neaprec'
    done('record save ' .. path)
    local info, good = neap('trace info ' .. path)
    assert.is_true(good, info)
    assert.matches('salted', info)
    assert.matches('requests +' .. ('%d'):format(status.requests), info)
    local replayed = json.decode((neap(('replay %s --policy lru --size 10%% --json'):format(path))))
    assert.equal(status.requests, replayed.requests)
    assert.equal(status.references, replayed.accesses)
    running:stop()

    running.options.flags = { '--no-record' }
    running:restart()
    local said, worked = ctl('record save ' .. path)
    assert.is_false(worked)
    assert.matches('nothing is recorded: the server runs with %-%-no%-record', said)
  end)

  it('is refused with the field, the value and what was expected', function()
    start { l1_size_gb = 0.0625 }
    local function refused(words, pattern_, status)
      local said, good = ctl(words)
      assert.is_false(good, words)
      assert.matches(pattern_, said)
      if status then assert.matches('HTTP ' .. status, said) end
    end
    refused('policy switch lur', "'lur' is unknown; expected one of .*did you mean 'LRU'%?", 400)
    refused('policy switch s3fifo:smal=2', "parameter 'smal' is unknown.*did you mean 'small'%?", 400)
    refused('policy switch /none/here.lua', '/none/here%.lua: No such file', 400)
    refused('policy switch arc --bound 3', 'bound is 3; expected a share from 0 to 1', 400)
    refused('policy switch arc --trial -1', 'trial is %-1; expected seconds from 0', 400)
    refused('policy switch arc --trial x', "%-%-trial: 'x' is not valid; expected a number")
    refused('policy swich arc', "unknown command of policy 'swich'; did you mean 'switch'%?")
    refused('policy shadow add nope', "'nope' is unknown", 400)
    refused('policy shadow remove lru', "shadow 'lru' is unknown; there is none", 404)
    refused('explain --hash 12', "hash: '12' is not valid; expected 64 hexadecimal digits", 400)
    refused('explain', 'expected one of a key, %-%-hash HEX and %-%-tokens FILE')
    for _, name in ipairs { 'arc', 'fifo', 'sieve', 'lirs' } do done('policy shadow add ' .. name) end
    refused('policy shadow add lru', 'there are 4 shadows already', 409)
    local status = os.execute(("curl -s -X POST -H 'Content-Type: application/json' -d '{\"polcy\":\"arc\"}' " ..
      "http://127.0.0.1:%d/policy/switch | grep -q \"'polcy' is unknown; did you mean 'policy'\""):format(
      running.http_port))
    assert.equal(0, status)
    assert.equal('LRU', policy().policy)
  end)
end)
