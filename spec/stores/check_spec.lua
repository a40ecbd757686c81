-- SPDX-License-Identifier: MIT
--
-- Every store that ships passes `neap check`. A new store is a line in spec/support/shipped.lua.

local kit = require 'spec.support.check'

for _, store in ipairs(require 'spec.support.shipped') do
  describe(store.name or store.what, function()
    it('passes every check', function()
      if store.missing then
        pending(store.missing)
        return
      end
      local directory, remove = kit.directory()
      local params, stop = store.setup(directory)
      finally(function()
        if stop then
          stop()
        end
        remove()
      end)
      local status, checks = kit.check { store.what, '--params', params }
      assert.equal('', kit.failures(checks))
      assert.equal(0, status)
      for name, check in pairs(checks) do
        assert.is_true(check.result ~= 'skipped' or check.reason ~= '', name)
      end
    end)
  end)
end
