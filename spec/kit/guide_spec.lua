-- SPDX-License-Identifier: MIT
--
-- The pages of examples/adapters, typed as they stand. A block of code with `file=NAME` is written to that file, with
-- `replace=A,B` only its functions of these names; `sh` is run and must succeed, with `fails=N` end with that status;
-- `sh server` runs until the page ends, and the next block waits for it.

local server = require 'spec.support.server'

local PAGES = { '1-ten-minutes', '2-in-c', '3-fast', '4-safe' }
local READY_S = 60

local function write(path, text)
  local file = assert(io.open(path, 'w'))
  file:write(text)
  file:close()
end

---The text of a function: from the line that begins it to the line that ends it.
local function find(text, name, language)
  local first
  if language == 'lua' then
    first = text:find('\n  ' .. name .. '[%w_]* = function')
    local _, last = text:find('\n  end,\n', first, true)
    if not last or text:sub(first, last):find('\n  [%w_]+ = function', 2) then -- a function of one line
      _, last = text:find('\n', first + 1, true)
    end
    return first, last
  end
  first = text:find('\nstatic [^\n;]-' .. name .. '%(')
  local _, last = text:find('\n}\n', first, true)
  return first, last
end

local function replace(path, names, code, language)
  local text = server.read(path)
  for name in names:gmatch '[%w_]+' do
    local from, to = find(text, name, language)
    assert(from and to, name .. ' is not in ' .. path)
    local new = code
    if names:find(',', 1, true) then
      local a, b = find('\n' .. code .. '\n', name, language)
      new = ('\n' .. code .. '\n'):sub(a + 1, b)
    end
    text = text:sub(1, from) .. new:gsub('\n*$', '\n') .. text:sub(to + 1)
  end
  write(path, text)
end

---@class Walk one page in a directory of its own
local Walk = {}
Walk.__index = Walk

function Walk.new()
  local directory = server.directory()
  local root = os.getenv 'NEAP_SOURCE' or io.popen('pwd'):read '*l'
  local bin = server.bin:match '^/' and server.bin or root .. '/' .. server.bin
  local http_port = server.free_port()
  return setmetatable({
    directory = directory, http_port = http_port,
    preamble = table.concat({
      ("cd '%s'"):format(directory), ("PATH='%s':$PATH"):format(bin:match '^(.*)/'),
      ("PORT=%d HTTP_PORT=%d URL=http://127.0.0.1:%d"):format(server.free_port(), http_port, http_port),
      ("NAME=%s NEAP_INCLUDE='%s/engine/include'"):format(server.shm_name(), root), 'export NO_COLOR=1', '',
    }, '\n'),
  }, Walk)
end

function Walk:shell(code, fails)
  local script, log = self.directory .. '/.block.sh', self.directory .. '/.block.log'
  write(script, self.preamble .. code)
  local status = os.execute(("sh -eu '%s' >'%s' 2>&1"):format(script, log))
  local code_of_exit = math.floor(status / 256)
  assert.equals(fails or 0, code_of_exit, code .. '\n' .. server.read(log))
end

function Walk:serve(code)
  local script = self.directory .. '/.server.sh'
  write(script, self.preamble .. 'exec ' .. code)
  self.server = server.spawn({ '/bin/sh', '-eu', script }, self.directory .. '/.server.log')
  local ready = server.eventually(READY_S, function() return server.listening(self.http_port) end)
  assert(ready, server.read(self.directory .. '/.server.log'))
end

function Walk:block(language, options, code)
  local file = options:match 'file=(%S+)'
  if file then
    local path = self.directory .. '/' .. file
    local names = options:match 'replace=(%S+)'
    if names then replace(path, names, code, language) else write(path, code) end
  elseif language == 'sh' and options:match 'server' then
    self:serve(code)
  elseif language == 'sh' then
    self:shell(code, tonumber(options:match 'fails=(%d+)'))
  end
end

function Walk:discard()
  if self.server then
    server.kill(self.server)
    for _, name in ipairs(server.files('/dev/shm', self.preamble:match 'NAME=(%S+)')) do
      os.remove('/dev/shm/' .. name)
    end
  end
  server.remove(self.directory)
end

describe('the guide', function()
  for _, page in ipairs(PAGES) do
    it('can be typed: ' .. page, function()
      local walk = Walk.new()
      finally(function() walk:discard() end)
      local blocks = 0
      for language, options, code in
        server.read('examples/adapters/' .. page .. '.md'):gmatch '\n```(%l+)([^\n]*)\n(.-\n)```'
      do
        walk:block(language, options, code)
        blocks = blocks + 1
      end
      assert.is_true(blocks > 3)
    end)
  end
end)
