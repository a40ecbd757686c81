-- SPDX-License-Identifier: MIT
--
-- Every store that ships passes `neap check`. A new store is a line in spec/support/shipped.lua; those made of other
-- stores are asked by check_compose_spec.lua, so that the two run at the same time.

local kit = require 'spec.support.check'

for _, store in ipairs(require 'spec.support.shipped') do
  if not store.composed then
    it((store.name or store.what) .. ' passes every check', function()
      if store.missing then
        pending(store.missing)
        return
      end
      kit.passes(store)
    end)
  end
end
