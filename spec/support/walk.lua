-- SPDX-License-Identifier: MIT
--
-- Pages of examples/ typed as they stand, in a directory of their own. A block of code with `file=NAME` is written to
-- that file, with `replace=A,B` only its functions of these names; `sh` is run and must succeed, with `fails=N` end
-- with that status; `sh server` runs until the walk ends, and the next block waits for it. `text` is what the block
-- before it printed, or lines in a row of that; `text like`: but for numbers, folders, hashes and the width of columns.

local assert = require 'luassert'

local server = require 'spec.support.server'

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

---What two runs have in common.
local function alike(text)
  text = text:gsub('[%w_./-]*/([%w_-]+%.lua)', '%1'):gsub('%x%x%x%x%x%x%x%x+', 'HEX'):gsub('%d[%d.,]*', 'N')
  return (text:gsub('[ \t]+', ' '):gsub(' \n', '\n'))
end

---@class Walk
---@field directory string where the blocks are run
---@field transcript string what was typed and printed so far
---@field blocks integer
local Walk = {}
Walk.__index = Walk

---@return Walk
function Walk.new()
  local directory = server.directory()
  local root = os.getenv 'NEAP_SOURCE' or io.popen('pwd'):read '*l'
  local bin = server.bin:match '^/' and server.bin or root .. '/' .. server.bin
  local http_port = server.free_port()
  return setmetatable({
    directory = directory, http_port = http_port, transcript = '', blocks = 0,
    preamble = table.concat({
      ("cd '%s'"):format(directory), ("PATH='%s':$PATH"):format(bin:match '^(.*)/'),
      ("PORT=%d HTTP_PORT=%d URL=http://127.0.0.1:%d"):format(server.free_port(), http_port, http_port),
      ("NAME=%s NEAP_INCLUDE='%s/engine/include'"):format(server.shm_name(), root),
      ("SOURCE='%s' TRACES='%s/tests/data' HERE='%s'"):format(root, root, directory),
      'export NO_COLOR=1 LC_ALL=C.UTF-8', '',
    }, '\n'),
  }, Walk)
end

function Walk:shell(code, fails)
  local script, printed, log = self.directory .. '/.block.sh', self.directory .. '/.printed', self.directory .. '/.log'
  write(script, self.preamble .. code)
  local status = os.execute(("sh -eu '%s' >'%s' 2>'%s'"):format(script, printed, log))
  self.printed = server.read(printed)
  assert.equals(fails or 0, math.floor(status / 256), code .. '\n' .. self.printed .. server.read(log))
  self.transcript = self.transcript .. '$ ' .. code:gsub('\n(.)', '\n> %1') .. self.printed .. '\n'
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
    self.transcript = ('%s$ cat %s\n%s\n'):format(self.transcript, file, server.read(path))
  elseif language == 'sh' and options:match 'server' then
    self:serve(code)
  elseif language == 'sh' then
    self:shell(code, tonumber(options:match 'fails=(%d+)'))
  elseif language == 'text' then
    local same = options:match 'like' and alike or tostring
    local found = same('\n' .. self.printed):find(same('\n' .. code), 1, true)
    assert(found, 'the page says:\n' .. code .. 'but what was printed is:\n' .. self.printed)
  end
end

---Types all blocks of a page.
function Walk:page(path)
  for language, options, code in server.read(path):gmatch '\n```(%l+)([^\n]*)\n(.-\n)```' do
    self:block(language, options, code)
    self.blocks = self.blocks + 1
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

return Walk
