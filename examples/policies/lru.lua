-- SPDX-License-Identifier: MIT
local policy = require 'neap.policy'

return policy {
  name = 'mylru',
  new = function(ctx)
    local order = policy.list(ctx.slots)
    return {
      insert = function(slot) order:push(slot) end,
      hit = function(slot) order:touch(slot) end,
      keep = function(slot) order:keep(slot) end,
      remove = function(slot) order:remove(slot) end,
      victim = function(tenant) return order:pop(tenant) end,
    }
  end,
}
