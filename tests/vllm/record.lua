-- SPDX-License-Identifier: MIT
--
-- Makes tests/data/lmcache_fs anew: `NEAP_BIN=.../bin/lmcache luajit tests/vllm/record.lua DIRECTORY` starts LMCache's
-- own server with its fs adapter, stores the prompts of spec/support/lmcache_files.lua and leaves the files there.

package.path = './?.lua;' .. package.path
local files = require 'spec.support.lmcache_files'
local server = require 'spec.support.server'

local target = assert(arg[1], 'usage: record.lua DIRECTORY')
local directory = server.directory()
local running = server.start {
  directory = directory, l1_size_gb = 0.125, l2 = { ('{"type":"fs","base_path":"%s"}'):format(target) },
}
assert(files.store(running.endpoint) == files.files, 'not everything was stored')
assert(server.eventually(30, function() return #server.files(target, '.data') == files.files end), 'files are missing')
running:stop()
server.remove(directory)
