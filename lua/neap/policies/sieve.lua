-- SPDX-License-Identifier: MIT
--
-- SIEVE (Zhang and others, "SIEVE is Simpler than LRU", NSDI 2024): a queue in the order of arrival and a hand that
-- walks from old to new, takes the mark off what was used and evicts what has none. What was used stays where it is,
-- so a hit costs one store. On traffic of conversations the hand stops wrapping: try it. Decides as the built-in SIEVE
-- does.

local policy = require 'neap.policy'

return policy {
  name = 'sieve',
  new = function(ctx)
    local queue = policy.list(ctx.slots)
    local used = policy.column(ctx.slots, 'uint8')
    local hand -- a slot; nil: at the old end

    local function pass(slot)
      if hand == slot then
        hand = queue:newer(slot)
      end
    end

    return {
      insert = function(slot)
        pass(slot)
        used[slot] = 0
        queue:push(slot)
      end,
      hit = function(slot) used[slot] = 1 end,
      keep = function(slot)
        pass(slot)
        queue:keep(slot)
      end,
      remove = function(slot)
        pass(slot)
        queue:remove(slot)
      end,
      victim = function(tenant)
        local slot = hand
        for _ = 0, 2 * queue:count() do -- twice round: the first time every mark may be taken off
          slot = slot or queue:oldest()
          if not slot then
            return nil
          end
          local next = queue:newer(slot)
          if not tenant or ctx.chunk[slot].tenant == tenant then
            if used[slot] == 0 then
              hand = next
              return queue:take(slot)
            end
            used[slot] = 0
          end
          slot = next
        end
      end,
    }
  end,
}
