-- SPDX-License-Identifier: MIT
--
-- 2Q, the full version (Johnson and Shasha, "2Q: A Low Overhead High Performance Buffer Management Replacement
-- Algorithm", VLDB 1994): what is new waits in A1in, where use changes nothing. Evicted from there, its name is
-- remembered in A1out; a name that comes back enters Am, which is an LRU. Decides as the built-in 2Q does.

local policy = require 'neap.policy'

return policy {
  name = 'two_q',
  params = { ['in'] = { 0.25, min = 0, max = 1 }, out = { 0.5, min = 0, max = 8 } }, -- shares of the capacity
  new = function(ctx)
    local share_in, share_out = ctx.params['in'], ctx.params.out
    local a1in, am = policy.lists(ctx.slots, 2)
    local names = policy.share(share_out, ctx.slots)
    local a1out = policy.ghost(names > 0 and names + 1 or 0) -- one more: it is trimmed when the next one arrives

    return {
      insert = function(slot, e)
        local known = a1out:take(e)
        a1out:trim(policy.share(share_out, ctx.capacity))
        if known then
          am:push(slot)
        else
          a1in:push(slot)
        end
      end,
      hit = function(slot) am:touch(slot) end,
      keep = function(slot)
        if not a1in:keep(slot) then
          am:keep(slot)
        end
      end,
      remove = function(slot, e)
        if not a1in:remove(slot) then
          am:remove(slot)
        elseif e.detail == policy.reason.evict then
          a1out:add(e)
        end
      end,
      victim = function(tenant)
        if a1in:count() > policy.share(share_in, ctx.capacity) then
          return a1in:pop(tenant) or am:pop(tenant)
        end
        return am:pop(tenant) or a1in:pop(tenant)
      end,
    }
  end,
}
