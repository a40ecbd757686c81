-- SPDX-License-Identifier: MIT
--
-- W-TinyLFU (Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM Transactions on
-- Storage 2017): what is new enters a small LRU, the window; its oldest may enter the main part, a segmented LRU, only
-- in place of one that a sketch of frequencies says was seen less often. Decides as the built-in WTinyLFU does.

local policy = require 'neap.policy'

return policy {
  name = 'wtinylfu',
  params = {
    window = { 0.01, min = 0, max = 1 }, -- share of the capacity
    protected = { 0.8, min = 0, max = 1 }, -- share of the main part
    window_uses = { 0, min = 0, max = 1 }, -- 1: uses in the window are counted too
  },
  new = function(ctx)
    local share_window, share_protected = ctx.params.window, ctx.params.protected
    local count_window = ctx.params.window_uses ~= 0
    local window, probation, protected = policy.lists(ctx.slots, 3)
    local sketch = policy.sketch(ctx.slots)
    local uses = 0 -- since all counts were halved

    local function window_limit()
      return math.max(1, policy.share(share_window, ctx.capacity))
    end
    local function main_limit()
      return ctx.capacity - math.min(window_limit(), ctx.capacity)
    end
    local function protected_limit()
      return policy.share(share_protected, main_limit())
    end

    local function count_use(e)
      sketch:add(e)
      uses = uses + 1
      if uses >= 32 * math.max(1, main_limit()) then
        uses = 0
        sketch:halve()
      end
    end

    -- From the window to the main part.
    local function admit(slot)
      sketch:add(ctx.chunk[slot])
      if probation:count() >= main_limit() - protected_limit() and protected:count() < protected_limit() then
        protected:push(slot)
      else
        probation:push(slot)
      end
    end

    -- The oldest of the window against the oldest of the main part: the loser goes.
    local function pick(tenant)
      local candidate, incumbent = window:oldest(tenant), probation:oldest(tenant) or protected:oldest(tenant)
      if not candidate or not incumbent then
        return candidate and window:take(candidate) or incumbent and (probation:take(incumbent) or protected:take(incumbent))
      end
      local name = ctx.chunk[candidate]
      if sketch:estimate(name) <= sketch:estimate(ctx.chunk[incumbent]) then
        sketch:add(name)
        return window:take(candidate)
      end
      incumbent = probation:take(incumbent) or protected:take(incumbent)
      admit(candidate)
      return incumbent
    end

    return {
      insert = function(slot, e)
        sketch:add(e)
        window:push(slot)
      end,
      hit = function(slot, e)
        if window:owns(slot) then
          if count_window then
            count_use(e)
          end
          window:touch(slot)
        elseif probation:owns(slot) or protected:owns(slot) then
          count_use(e)
          if probation:has(slot) or protected:has(slot) then
            protected:push(slot)
            if protected:count() > protected_limit() then
              probation:push(protected:oldest())
            end
          end
        end
      end,
      keep = function(slot)
        return window:keep(slot) or probation:keep(slot) or protected:keep(slot)
      end,
      remove = function(slot)
        return window:remove(slot) or probation:remove(slot) or protected:remove(slot)
      end,
      victims = function(out, max, tenant)
        while window:count() > window_limit() and probation:count() + protected:count() < main_limit() do
          admit(window:oldest())
        end
        for i = 0, max - 1 do
          local slot = pick(tenant)
          if not slot then
            return i
          end
          out[i] = slot
        end
        return max
      end,
    }
  end,
}
