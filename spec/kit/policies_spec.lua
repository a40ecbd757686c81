-- SPDX-License-Identifier: MIT
--
-- The pages of examples/policies, typed as they stand in one terminal (spec/support/walk.lua): what is printed is what
-- they say, line for line. `examples/policies/walk.txt` is the record of it; NEAP_RECORD=1 writes a new one. The
-- page of the live server is not in the record: no two runs of it have the same figures.

local json = require 'spec.support.json'
local server = require 'spec.support.server'
local Walk = require 'spec.support.walk'

local PAGES = { '1-lru', '2-session', 'gallery' }
local LIVE = '3-live'
local HERE = 'examples/policies/'

describe('the walk through policies', function()
  local walk

  before_each(function() walk = Walk.new() end)
  after_each(function() walk:discard() end)

  it('prints what its pages and its record say', function()
    for _, page in ipairs(PAGES) do walk:page(HERE .. page .. '.md') end
    assert.is_true(walk.blocks > 20)
    if os.getenv 'NEAP_RECORD' then
      local file = assert(io.open(HERE .. 'walk.txt', 'w'))
      file:write(walk.transcript)
      file:close()
    end
    assert.equals(server.read(HERE .. 'walk.txt'), walk.transcript)
    for _, name in ipairs { 'lru', 'twice', 'session' } do
      local shipped = server.read(HERE .. name .. '.lua'):gsub('^%-%- SPDX[^\n]*\n', '')
      assert.equals(shipped, server.read(walk.directory .. '/' .. name .. '.lua'))
    end
    walk:page(HERE .. LIVE .. '.md')
  end)

  it('ends with a policy that beats LRU', function()
    local ratio = {}
    walk:shell([[
      cp "$SOURCE/examples/policies/session.lua" .
      neap replay $TRACES/lmcache_agents_256ch.jsonl.xz --policy lru,session.lua --size 1%,2%,5% --json]])
    for line in walk.printed:gmatch '[^\n]+' do
      local run = json.decode(line)
      ratio[run.policy .. run.size_chunks] = run.prefix_hit_ratio
    end
    for _, size in ipairs { 61, 123, 308 } do
      local lru, session = ratio['lru' .. size], ratio['session.lua' .. size]
      assert.is_true(session > lru, ('%d chunks: lru %g, session.lua %g'):format(size, lru, session))
    end
  end)
end)
