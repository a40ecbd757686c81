-- SPDX-License-Identifier: MIT
--
-- GreedyDual-Size with frequency (Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency
-- Caching Policy", HP Labs 1998): rank = floor + uses * cost / size, the floor being the rank of the last victim, so
-- that what is not used any more is overtaken. A later chunk costs more to compute, so heads would go before their
-- tails: only leaves may go. Decides as the built-in GDSF does.

local policy = require 'neap.policy'

local ABSENT, HERE, OUT = 0, 1, 2

return policy {
  name = 'gdsf',
  constraint = 'leaf',
  new = function(ctx)
    local leaves = policy.heap(ctx.slots)
    local rank, cost = policy.column(ctx.slots), policy.column(ctx.slots)
    local kib, uses = policy.column(ctx.slots, 'uint32'), policy.column(ctx.slots, 'uint32')
    local place = policy.column(ctx.slots, 'uint8')
    local inner = policy.column(ctx.slots, 'uint8') -- something continues it
    local floor = 0

    local function settle(slot)
      if place[slot] == HERE and inner[slot] == 0 then
        leaves:put(slot, rank[slot])
      else
        leaves:remove(slot)
      end
    end

    local function value(slot)
      rank[slot] = floor + uses[slot] * cost[slot] / kib[slot]
      settle(slot)
    end

    local function mark(slot, is_inner)
      if place[slot] ~= ABSENT then
        inner[slot] = is_inner
        settle(slot)
      end
    end

    return {
      insert = function(slot, e)
        local recompute = ctx.cost_us(e.pos) -- 0 without a cost model
        place[slot], inner[slot], uses[slot] = HERE, 0, 1
        cost[slot], kib[slot] = recompute > 0 and recompute or 1, math.max(e.kib, 1)
        value(slot)
      end,
      hit = function(slot)
        if place[slot] ~= ABSENT then
          uses[slot] = uses[slot] + 1
          value(slot)
        end
      end,
      keep = function(slot)
        if place[slot] ~= ABSENT then
          place[slot] = HERE
          value(slot)
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
          floor = leaves:rank(slot)
          place[slot] = OUT
          leaves:remove(slot)
        end
        return slot
      end,
    }
  end,
}
