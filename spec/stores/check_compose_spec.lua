-- SPDX-License-Identifier: MIT
--
-- Stores made of other stores pass `neap check` as those do; see check_spec.lua.

local kit = require 'spec.support.check'

for _, store in ipairs(require 'spec.support.shipped') do
  if store.composed then
    it(store.what .. ' passes every check', function()
      kit.passes(store)
    end)
  end
end
