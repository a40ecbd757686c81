-- SPDX-License-Identifier: MIT
--
-- Runs `neap check` and reads its report.

local json = require 'spec.support.json'

local M = {
  root = os.getenv 'NEAP_SOURCE' or '.',
  bin = os.getenv 'NEAP_BIN' or (os.getenv 'NEAP_SOURCE' or '.') .. '/build/bin/neap',
  plugins = os.getenv 'NEAP_PLUGINS' or 'build/plugins',
}

function M.quote(word)
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

--- A fresh directory that only its owner may write to, and a function that removes it.
---@return string path
---@return fun() remove
function M.directory()
  local pipe = assert(io.popen 'mktemp -d')
  local path = pipe:read '*l'
  pipe:close()
  return path, function() os.execute('rm -rf -- ' .. M.quote(path)) end
end

--- Runs a command to its end: its exit status, and what it printed.
function M.run(words)
  local quoted = {}
  for i, word in ipairs(words) do
    quoted[i] = M.quote(word)
  end
  local pipe = assert(io.popen(table.concat(quoted, ' ') .. ' 2>&1; echo "status $?"'))
  local text = pipe:read '*a'
  pipe:close()
  local printed, status = text:match '^(.-)status (%d+)\n$'
  return tonumber(status), printed
end

--- Runs a check to its report: status, and what --json says of each check, by name.
---@param words string[] behind `neap check`
---@return integer status
---@return table<string, {result: string, reason: string, note: string, log: string, output: string}> checks
function M.check(words)
  local status, text = M.run { M.bin, 'check', '--json', unpack(words) }
  local ok, report = pcall(json.decode, text)
  if not ok then
    error(('exit status %s, %s, in:\n%s'):format(tostring(status), report, text))
  end
  local checks = {}
  for _, check in ipairs(report.checks) do
    checks[check.check] = check
  end
  return status, checks
end

--- Sets a shipped store up (spec/support/shipped.lua), checks it, and raises if a check failed or was skipped without
--- a reason.
---@param store spec.Shipped
function M.passes(store)
  local directory, remove = M.directory()
  local params, stop = store.setup(directory)
  local ran, status, checks = pcall(M.check, { store.what, '--params', params })
  if stop then
    stop()
  end
  remove()
  assert(ran, status)
  assert(M.failures(checks) == '', M.failures(checks))
  assert(status == 0, status)
  for name, check in pairs(checks) do
    assert(check.result ~= 'skipped' or check.reason ~= '', name)
  end
end

--- The failed checks in words, for messages.
function M.failures(checks)
  local lines = {}
  for name, check in pairs(checks) do
    if check.result == 'failed' then
      lines[#lines + 1] = ('%s: %s\n%s\n%s'):format(name, check.reason or '', check.log or '', check.output or '')
    end
  end
  return table.concat(lines, '\n')
end

return M
