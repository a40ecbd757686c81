-- SPDX-License-Identifier: MIT
--
-- files.lua store|check PORT: stores or reads the prompts of spec/support/lmcache_files.lua on a running server.

package.path = './?.lua;' .. package.path
local files = require 'spec.support.lmcache_files'

local action = assert(files[arg[1]], 'usage: files.lua store|check PORT')
local ok, chunks = pcall(action, 'tcp://127.0.0.1:' .. arg[2])
if not ok or chunks ~= files.files then
  print(ok and ('%d chunks, expected %d'):format(chunks, files.files) or chunks)
  os.exit(1)
end
