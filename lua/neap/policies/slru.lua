-- SPDX-License-Identifier: MIT
--
-- Segmented LRU (Karedla, Love and Wherry, "Caching Strategies to Improve Disk System Performance", IEEE Computer
-- 1994): use moves a slot one segment up; a segment over its limit gives its oldest back to the one below. What was
-- used once cannot push out what was used often. Decides as the built-in SLRU does.

local policy = require 'neap.policy'

return policy {
  name = 'slru',
  params = { segments = { 4, min = 1, max = 9 } },
  new = function(ctx)
    local count = math.floor(ctx.params.segments)
    local segment = { policy.lists(ctx.slots, count) }

    local function limit()
      return math.floor(ctx.capacity / count)
    end

    local function insert(slot)
      for n = 1, count do
        if segment[n]:count() < limit() then
          segment[n]:push(slot)
          return
        end
      end
      segment[1]:push(slot)
    end

    local function hit(slot)
      local home = segment[1]:home(slot)
      if not home or not segment[home]:has(slot) then
        return -- on its way out
      end
      local n = math.min(home + 1, count)
      segment[n]:push(slot)
      while n > 1 and segment[n]:count() > limit() do
        segment[n - 1]:push(segment[n]:oldest())
        n = n - 1
      end
    end

    return {
      insert = insert,
      hit = hit,
      keep = function(slot)
        local home = segment[1]:home(slot)
        if home then
          segment[home]:keep(slot)
        end
      end,
      remove = function(slot)
        local home = segment[1]:home(slot)
        if home then
          segment[home]:remove(slot)
        end
      end,
      victim = function(tenant)
        for n = 1, count do
          local slot = segment[n]:pop(tenant)
          if slot then
            return slot
          end
        end
      end,
    }
  end,
}
