-- SPDX-License-Identifier: MIT
--
-- A kit that cannot fail is worthless: `neap check` against stores that are right but for one fault each
-- (tests/plugins/bad.c and bad.lua). Each fault is found, by the check that is made for it and with words that say what
-- was wrong; a store without a fault passes.

local kit = require 'spec.support.check'

local BAD_SO, BAD_LUA = kit.plugins .. '/bad.so', kit.root .. '/tests/plugins/bad.lua'

-- fault, the check that finds it, a part of what it says, a part of the log
local native = {
  { 'refuses', 'open', 'it does not want to' },
  { 'closes-for-ever', 'open', 'did not come back within 1 s while close ran', hangs = true },
  { 'works-after-close', 'open', 'queued work started after close' },
  { 'never-ends', 'store-load', 'was not ended by done within 1 s', hangs = true },
  { 'blocks', 'store-load', 'did not come back within 1 s while a lookup', hangs = true },
  { 'exits', 'store-load', 'ended the process with exit status 3 while a lookup' },
  { 'unknown-code', 'store-load', 'the result -99, which is no code' },
  { 'positive-code', 'store-load', 'the result 2, which is no code' },
  { 'ends-twice', 'store-load', 'a second time for one operation' },
  { 'ends-twice-later', 'once', 'a second time for one operation' },
  { 'writes-late', 'once', 'changed after done' },
  { 'writes-the-source', 'store-load', 'a byte it may only read' },
  { 'writes-one-past', 'store-load', 'wrote beside the 5000 bytes' },
  { 'writes-one-before', 'sizes', 'touched a byte before the 1 bytes' },
  { 'overruns', 'wrong-size', 'past the end of' },
  { 'takes-any-length', 'wrong-size', 'ended with NEAP_OK; expected NEAP_ECORRUPT' },
  { 'misses-on-length', 'wrong-size', 'ended with NEAP_ENOENT; expected NEAP_ECORRUPT' },
  { 'flips-a-bit', 'sizes', 'is not the one that was stored' },
  { 'crashes', 'sizes', 'while a load of 10485' },
  { 'first-result-only', 'batches', 'object 2 of 2 of a store ended with NEAP_EIO' },
  { 'all-or-nothing', 'per-key', 'lookup NEAP_ENOENT' },
  { 'last-wins', 'first-wins', 'stored_bytes 6000; expected 0' },
  { 'counts-again', 'first-wins', 'stored_bytes 6000; expected 0' },
  { 'ignores-tenant', 'tenants', "another tenant's object ended with NEAP_OK" },
  { 'ignores-tenant', 'keys', 'that differs in one part' },
  { 'ignores-group', 'keys', 'that differs in one part' },
  { 'tells-wrong-size', 'lookup', 'stored_bytes 12346; expected 12345' },
  { 'deletes-nothing', 'delete', 'of what was deleted ended with NEAP_OK' },
  { 'deletes-the-missing', 'delete-missing', 'expected NEAP_ENOENT' },
  { 'lists-twice', 'list', 'is listed 2 times; expected once' },
  { 'lists-wrong-size', 'list', 'is listed with 1 bytes' },
  { 'lists-on', 'list-stop', 'after the sink had asked to stop' },
  { 'lists-after-done', 'list', 'after done' },
  { 'status-is-no-json', 'status', 'status is not JSON' },
  { 'status-overruns', 'status', 'past the end' },
  { 'forgets-when-busy', 'no-workers', 'was not ended by done', hangs = true },
  { 'forgets-when-late', 'deadline', 'was not ended by done', hangs = true },
  { 'ends-on-cancel', 'cancel', 'a second time for one operation' },
  { 'prints', 'quiet', 'beginning with: looking it up' },
  { 'leaks-a-descriptor', 'leaves-nothing', 'file descriptors are left behind' },
  { 'leaks-a-thread', 'leaves-nothing', 'threads are left behind' },
  { 'leaks-memory', 'memory', 'on the heap' },
}

local scripts = {
  { 'raises', 'store-load', 'NEAP_ESCRIPT', 'the script has a mistake' },
  { 'returns-a-table', 'store-load', 'ended with' },
  { 'returns-an-unknown-code', 'store-load', 'ended with' },
  { 'ends-the-program', 'store-load', 'NEAP_ESCRIPT', 'os.exit' },
  { 'uses-an-old-view', 'store-load', 'NEAP_ESCRIPT', 'no longer valid' },
  { 'stores-nothing', 'store-load', 'the lookup of a key just stored ended with NEAP_ENOENT' },
  { 'mixes-racing-stores', 'race', 'but a mixture' },
  { 'sleeps-for-ever', 'store-load', 'was not ended by done within 1 s', hangs = true },
  { 'loops', 'store-load', '', hangs = true },
  { 'allocates-without-end', 'store-load', '' },
}

local function expect_found(words, case)
  local check, text, log = case[2], case[3], case[4]
  local status, checks = kit.check { '--timeout', case.hangs and '1' or '30', '--only', check, unpack(words) }
  local found = assert(checks[check], 'no check ' .. check)
  assert.equal('failed', found.result, 'the fault was not found')
  assert.equal(1, status)
  assert.truthy(found.reason:find(text, 1, true), found.reason)
  assert.truthy((found.log .. found.reason):find(log or '', 1, true), found.log)
end

describe('neap check', function()
  it('passes a store that has no fault', function()
    local status, checks = kit.check { BAD_SO, '--params', '{"fault":"none"}' }
    assert.equal('', kit.failures(checks))
    assert.equal(0, status)
  end)

  it('goes on with the other checks when the store crashes in one', function()
    local status, checks = kit.check { BAD_SO, '--params', '{"fault":"crashes"}', '--only', '*e*s' }
    assert.equal(1, status)
    assert.equal('failed', checks.sizes.result)
    assert.equal('passed', checks.keys.result)
    assert.equal('passed', checks.tenants.result)
  end)

  it('leaves no process behind that hangs', function()
    local directory, remove = kit.directory() -- its name tells our processes from others
    local other = directory .. '/bad.so'
    assert.equal(0, (kit.run { 'cp', BAD_SO, other }))
    assert.equal(1, (kit.check { '--timeout', '1', '--only', 'killed', other, '--params', '{"fault":"blocks"}' }))
    local left
    for _ = 1, 50 do -- the kernel ends it, in its own time
      _, left = kit.run { 'sh', '-c', ("grep -las '%s' /proc/[0-9]*/cmdline"):format((directory:gsub('.$', '[%0]'))) }
      if left == '' then break end
      os.execute 'sleep 0.1'
    end
    remove()
    assert.equal('', left)
  end)

  for _, case in ipairs(native) do
    it(("finds a native store that '%s', in '%s'"):format(case[1], case[2]), function()
      expect_found({ BAD_SO, '--params', ('{"fault":"%s"}'):format(case[1]) }, case)
    end)
  end

  for _, case in ipairs(scripts) do
    it(("finds a script that '%s', in '%s'"):format(case[1], case[2]), function()
      expect_found({ BAD_LUA, '--class', 'Bad', '--params', ('{"fault":"%s"}'):format(case[1]) }, case)
    end)
  end

  for _, check in ipairs { 'full-disk', 'killed' } do
    it("finds a store that writes under the final name, in '" .. check .. "'", function()
      local directory, remove = kit.directory()
      expect_found({ BAD_LUA, '--class', 'Half', '--params', ('{"directory":"%s"}'):format(directory) },
        { 'is half', check, '' })
      remove()
    end)
  end

  it('ends with 2 when its command line is wrong', function()
    for _, words in ipairs { {}, { 'fs', '--params', '{' }, { 'fs', '--timeout', 'x' }, { 'fs', '--tiemout', '1' },
      { 'fs', 'mock' } } do
      local status, text = kit.run { kit.bin, 'check', unpack(words) }
      assert.equal(2, status, text)
      assert.truthy(text:find('neap check: ', 1, true))
    end
  end)

  it('ends with 1 and says why when there is no such store, or it cannot be loaded', function()
    for _, case in ipairs {
      { 'nosuch', "unknown L2 adapter type 'nosuch'" },
      { './nosuch.lua', 'No such file' },
      { kit.plugins .. '/wrong_abi.so', 'built for adapter interface 99' },
      { BAD_LUA, 'Bad' },
    } do
      local status, checks = kit.check { case[1] }
      assert.equal(1, status)
      assert.equal('failed', checks.loads.result)
      assert.truthy(checks.loads.reason:find(case[2], 1, true), checks.loads.reason)
      assert.equal('skipped', checks.sizes.result)
    end
  end)

  it('prints a line for each check, and names each in --list', function()
    local _, text = kit.run { kit.bin, 'check', BAD_SO, '--only', 'list*' }
    assert.truthy(text:find('ok    lists what it holds', 1, true), text)
    assert.truthy(text:find('4 passed, 0 failed, 0 skipped', 1, true), text)
    local status, list = kit.run { kit.bin, 'check', '--list' }
    assert.equal(0, status)
    assert.truthy(list:find '\nstore%-load +gives back')
  end)
end)
