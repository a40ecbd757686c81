-- SPDX-License-Identifier: MIT
--
-- ARC, the adaptive replacement cache (Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST
-- 2003). T1 has what was used once, T2 what was used again; names of what was evicted from them are in B1 and B2. A
-- name that comes back from B1 says that T1 was too small, one from B2 that T2 was: the target p of T1 moves. Decides
-- as the built-in ARC does.

local policy = require 'neap.policy'

local B1, B2 = 1, 2

return policy {
  name = 'arc',
  new = function(ctx)
    local t1, t2 = policy.lists(ctx.slots, 2)
    local b = policy.ghost(ctx.slots)
    local owned = policy.column(ctx.slots, 'uint8') -- is resident
    local residents, most, p = 0, 0, 0

    local function capacity()
      return math.min(ctx.capacity, most)
    end

    -- The paper's bounds: |T1| + |B1| <= c, and everything together <= 2c.
    local function trim()
      local c = capacity()
      b:trim(c - t1:count(), B1)
      local excess = residents + b:count(B1) + b:count(B2) - 2 * c
      if excess > 0 then
        b:trim(b:count(B2) - excess, B2)
        b:trim(2 * c - residents - b:count(B2), B1)
      end
    end

    -- A name has come back from that side. The scarcer side speaks the louder.
    local function adapt(side)
      local step = math.max(1, b:count(3 - side) / (b:count(side) + 1))
      p = side == B1 and math.min(capacity(), p + step) or math.max(0, p - step)
    end

    return {
      insert = function(slot, e)
        residents = residents + 1 - owned[slot]
        owned[slot] = 1
        most = math.max(most, residents)
        local side = b:take(e)
        if side then
          adapt(side)
          t2:push(slot)
        else
          t1:push(slot)
        end
        trim()
      end,
      hit = function(slot)
        if t1:has(slot) or t2:has(slot) then
          t2:push(slot)
        elseif t1:owns(slot) then -- on its way out: it is T2's from now on
          t2:push(slot)
          t2:take(slot)
        end
      end,
      keep = function(slot)
        if not t1:keep(slot) then
          t2:keep(slot)
        end
      end,
      remove = function(slot, e)
        local side = t1:home(slot)
        if not side then
          return
        end
        if side == B1 then
          t1:remove(slot)
        else
          t2:remove(slot)
        end
        residents = residents - 1
        owned[slot] = 0
        if e.detail == policy.reason.evict then
          if b:count(B1) + b:count(B2) == ctx.slots then
            b:drop(b:count(B2) > 0 and B2 or B1)
          end
          b:add(e, side)
        end
        trim()
      end,
      victim = function(tenant)
        if t1:count() >= math.max(1, p) then
          return t1:pop(tenant) or t2:pop(tenant)
        end
        return t2:pop(tenant) or t1:pop(tenant)
      end,
    }
  end,
}
