-- SPDX-License-Identifier: MIT
--
-- The pages of examples/adapters, typed as they stand (spec/support/walk.lua).

local Walk = require 'spec.support.walk'

local PAGES = { '1-ten-minutes', '2-in-c', '3-fast', '4-safe' }

describe('the guide', function()
  for _, page in ipairs(PAGES) do
    it('can be typed: ' .. page, function()
      local walk = Walk.new()
      finally(function() walk:discard() end)
      walk:page('examples/adapters/' .. page .. '.md')
      assert.is_true(walk.blocks > 3)
    end)
  end
end)
