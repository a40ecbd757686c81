-- SPDX-License-Identifier: MIT
--
-- Any slot at all, the same ones for the same seed: what a policy has to beat. Decides as the built-in Random does.

local policy = require 'neap.policy'

return policy {
  name = 'random',
  new = function(ctx)
    local here, rng = policy.sampler(ctx.slots), policy.rng(ctx.seed)
    local resident = policy.column(ctx.slots, 'uint8')
    return {
      insert = function(slot)
        resident[slot] = 1
        here:add(slot)
      end,
      keep = function(slot)
        if resident[slot] == 1 then
          here:add(slot)
        end
      end,
      remove = function(slot)
        resident[slot] = 0
        here:remove(slot)
      end,
      victim = function(tenant)
        local slot = here:draw(rng, tenant)
        if slot then
          here:remove(slot)
        end
        return slot
      end,
    }
  end,
}
