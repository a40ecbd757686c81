-- SPDX-License-Identifier: MIT
local policy = require 'neap.policy'

return policy {
  name = 'twice',
  new = function(ctx)
    local once, again = policy.lists(ctx.slots, 2)
    return {
      insert = function(slot) once:push(slot) end,
      hit = function(slot) if once:owns(slot) or again:owns(slot) then again:push(slot) end end,
      keep = function(slot) if not once:keep(slot) then again:keep(slot) end end,
      remove = function(slot) if not once:remove(slot) then again:remove(slot) end end,
      victim = function(tenant) return once:pop(tenant) or again:pop(tenant) end,
    }
  end,
}
