-- SPDX-License-Identifier: MIT
--
-- First in, first out: use changes nothing. The baseline against which second chances are measured. Decides as the
-- built-in FIFO does.

local policy = require 'neap.policy'

return policy {
  name = 'fifo',
  new = function(ctx)
    local queue = policy.list(ctx.slots)
    return {
      insert = function(slot) queue:push(slot) end,
      keep = function(slot) queue:keep(slot) end,
      remove = function(slot) queue:remove(slot) end,
      victim = function(tenant) return queue:pop(tenant) end,
    }
  end,
}
