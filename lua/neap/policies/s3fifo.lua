-- SPDX-License-Identifier: MIT
--
-- S3-FIFO (Yang and others, "FIFO Queues are All You Need for Cache Eviction", SOSP 2023): what is new waits in a
-- small queue; what was used there often enough goes on to the main queue, the rest leaves its name behind. A name
-- that comes back enters the main queue at once. The main queue gives a second chance for each use, up to three.
-- Decides as the built-in S3FIFO does.

local policy = require 'neap.policy'

return policy {
  name = 's3fifo',
  params = {
    small = { 0.1, min = 0, max = 1 }, -- share of the capacity
    ghost = { 0.9, min = 0, max = 8 }, -- names remembered, likewise
    promote = { 2, min = 1, max = 255 }, -- uses
  },
  new = function(ctx)
    local share_small, share_ghost, promote = ctx.params.small, ctx.params.ghost, ctx.params.promote
    local small, main = policy.lists(ctx.slots, 2)
    local uses = policy.column(ctx.slots, 'uint8')
    local names = policy.share(share_ghost, ctx.slots)
    local ghost = policy.ghost(names > 0 and names + 1 or 0) -- one more: it is trimmed when the next one arrives
    local full = false -- until then what is new may go to the main queue, which would stand empty

    local function pick_small(tenant)
      local slot = small:oldest(tenant)
      while slot and uses[slot] >= promote do
        uses[slot] = 0
        main:push(slot)
        slot = small:oldest(tenant)
      end
      return slot and small:take(slot)
    end

    local function pick_main(tenant)
      local slot = main:oldest(tenant)
      while slot and uses[slot] > 0 do
        uses[slot] = math.min(uses[slot], 3) - 1
        main:push(slot)
        slot = main:oldest(tenant)
      end
      return slot and main:take(slot)
    end

    return {
      insert = function(slot, e)
        local known = ghost:take(e)
        ghost:trim(policy.share(share_ghost, ctx.capacity))
        uses[slot] = 0
        if known or not full and small:count() >= policy.share(share_small, ctx.capacity) then
          main:push(slot)
        else
          small:push(slot)
        end
      end,
      hit = function(slot)
        if uses[slot] < 255 then
          uses[slot] = uses[slot] + 1
        end
      end,
      keep = function(slot)
        if small:owns(slot) or main:owns(slot) then
          main:push(slot)
        end
      end,
      remove = function(slot, e)
        if not small:remove(slot) then
          main:remove(slot)
        elseif e.detail == policy.reason.evict then
          ghost:add(e)
        end
      end,
      victim = function(tenant)
        full = true
        if main:count() > ctx.capacity - policy.share(share_small, ctx.capacity) then
          return pick_main(tenant) or pick_small(tenant)
        end
        return pick_small(tenant) or pick_main(tenant)
      end,
    }
  end,
}
