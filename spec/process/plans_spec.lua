-- SPDX-License-Identifier: MIT
--
-- A policy in Lua that plans what goes down and what comes up on a live server, takes hints, and fails without anybody
-- noticing.

local server = require 'spec.support.server'
local workload = require 'spec.support.workload'

local POLICY = [[
local policy = require 'neap.policy'
return policy {
  name = 'planner',
  new = function(ctx)
    local all, hinted = policy.list(ctx.slots), 0
    return {
      insert = function(slot) all:push(slot) end,
      hit = function(slot) all:push(slot) end,
      keep = function(slot) all:keep(slot) end,
      remove = function(slot) all:remove(slot) end,
      victim = function(tenant) return all:pop(tenant) end,
      store_plan = function(plan)
        plan.cut[0] = math.min(plan.cut[0], 3)
      end,
      load_plan = function(plan)
        plan.load = math.min(plan.load, hinted > 0 and 3 or 2)
      end,
      on_hint = function(hints, n)
        if hints[0].score == 0 then error 'no future' end
        hinted = n
      end,
    }
  end,
}
]]

describe('a policy that plans', function()
  local directory, running, load

  local function curl(method, path, body)
    local data = body and ("-d '%s'"):format(body) or ''
    local command = "env -u LD_PRELOAD curl -s -w ' %%{http_code}' -X %s %s http://127.0.0.1:%d%s"
    local pipe = assert(io.popen(command:format(method, data, running.http_port, path)))
    local text = pipe:read '*a'
    pipe:close()
    return tonumber(text:match '(%d+)$'), text
  end

  local function metric(name)
    local _, text = curl('GET', '/metrics')
    return tonumber(text:match('\n' .. name .. ' (%d+)'))
  end

  local function reaches(name, value)
    assert.truthy(server.eventually(30, function() return metric(name) == value end), name)
  end

  before_each(function()
    directory = server.directory()
    local file = assert(io.open(directory .. '/planner.lua', 'w'))
    file:write(POLICY)
    file:close()
    running = server.start {
      directory = directory,
      flags = { '--eviction-policy', directory .. '/planner.lua', '--recompute-us', '5000' },
      l2 = { ('{"type":"fs","base_path":"%s/store"}'):format(directory) },
    }
    load = workload.new(running)
  end)

  after_each(function()
    load:close()
    running:discard()
  end)

  it('stores the first chunks, loads fewer, and is told of what is to come', function()
    assert.equal(5, load:store(1, 5 * 256))
    reaches('neap_store_planned_out_objects_total', 2)
    reaches('lmcache_mp_l2_store_completed_objects_chunks_total', 3)
    assert.equal(200, (curl('POST', '/cache/clear')))
    assert.equal(2, load:hit_and_verify(1, 5 * 256))
    assert.equal(1, metric 'neap_fetch_recomputed_chunks_total')
    local status, text = curl('POST', '/policy/hints', '{"hints":[{"hash":"00000000000000ff","score":0.5}]}')
    assert.equal(202, status, text)
    assert.equal(3, load:hit_and_verify(1, 5 * 256))
  end)

  it('is replaced when it fails, and requests go on', function()
    assert.equal(202, (curl('POST', '/policy/hints', '{"hints":[{"hash":"00000000000000ff","score":0}]}')))
    local said = server.eventually(10, function() return running:output():find 'planner%.lua:%d+: no future' end)
    assert.truthy(said, running:output())
    assert.equal(409, (curl('POST', '/policy/hints', '{"hints":[{"hash":"00000000000000ff","score":1}]}')))
    assert.equal(5, load:store(2, 5 * 256))
    reaches('lmcache_mp_l2_store_completed_objects_chunks_total', 5)
    assert.equal(200, (curl('POST', '/cache/clear')))
    assert.equal(5, load:hit_and_verify(2, 5 * 256))
  end)
end)
