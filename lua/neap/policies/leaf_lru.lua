-- SPDX-License-Identifier: MIT
--
-- The least recently used leaf: nothing goes that something resident continues, as in SGLang's radix cache (Zheng and
-- others, "SGLang: Efficient Execution of Structured Language Model Programs", NeurIPS 2024). Since requests are told
-- tail first, plain LRU does nearly the same at half the cost. Decides as the built-in LeafLRU does.

local policy = require 'neap.policy'

local ABSENT, HERE, OUT = 0, 1, 2

return policy {
  name = 'leaf_lru',
  constraint = 'leaf',
  new = function(ctx)
    local leaves = policy.heap(ctx.slots) -- by last use
    local last = policy.column(ctx.slots)
    local place = policy.column(ctx.slots, 'uint8')
    local inner = policy.column(ctx.slots, 'uint8') -- something continues it
    local clock = 0

    local function settle(slot)
      if place[slot] == HERE and inner[slot] == 0 then
        leaves:put(slot, last[slot])
      else
        leaves:remove(slot)
      end
    end

    local function use(slot)
      clock = clock + 1
      last[slot] = clock
      settle(slot)
    end

    local function mark(slot, value)
      if place[slot] ~= ABSENT then
        inner[slot] = value
        settle(slot)
      end
    end

    return {
      insert = function(slot)
        place[slot], inner[slot] = HERE, 0
        use(slot)
      end,
      hit = function(slot)
        if place[slot] ~= ABSENT then
          use(slot)
        end
      end,
      keep = function(slot)
        if place[slot] ~= ABSENT then
          place[slot] = HERE
          use(slot)
        end
      end,
      remove = function(slot)
        place[slot] = ABSENT
        leaves:remove(slot)
      end,
      leaf = function(slot) mark(slot, 0) end,
      unleaf = function(slot) mark(slot, 1) end,
      victim = function(tenant)
        local slot = leaves:first(tenant)
        if slot then
          place[slot] = OUT
          leaves:remove(slot)
        end
        return slot
      end,
    }
  end,
}
