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
    probation = { 0.2, min = 0, max = 1 }, -- share of the main part
    window_uses = { 0, min = 0, max = 1 }, -- 1: uses in the window are counted too
  },
  new = function(ctx)
    local share_window, share_probation, count_window = ctx.params.window, ctx.params.probation, ctx.params.window_uses
    -- surplus: what leaves probation without a duel, see `use`
    local window, probation, protected, surplus = policy.lists(ctx.slots, 4)
    local uses = 0 -- since all counts were halved

    local capacity, window_limit, main_limit, probation_limit, protected_limit
    local function set_limits(now)
      capacity = now
      window_limit = math.max(1, policy.share(share_window, now))
      main_limit = now - math.min(window_limit, now)
      probation_limit = policy.share(share_probation, main_limit)
      protected_limit = policy.share(1 - share_probation, main_limit)
    end
    set_limits(ctx.slots)
    local sketch = policy.sketch(math.max(1, main_limit))

    local function count_use(e)
      sketch:add(e)
      uses = uses + 1
      if uses >= 32 * math.max(1, main_limit) then
        uses = 0
        sketch:halve()
      end
    end
    -- Up to protected, whose oldest goes back if it is full. Shares are rounded down, so probation may then be over.
    local function use(slot, was_on_probation)
      protected:push(slot)
      if protected:count() > protected_limit then
        probation:push(protected:oldest())
      end
      if was_on_probation and probation:count() > probation_limit then
        surplus:push(probation:oldest())
      end
    end
    -- From the window to the main part.
    local function admit(slot)
      if probation:count() >= probation_limit and protected:count() < protected_limit then
        protected:push(slot)
      else
        probation:push(slot)
      end
      sketch:add(ctx.chunk[slot])
    end
    -- The oldest of the window against the oldest of the main part: the loser goes.
    local function duel(tenant)
      local candidate, incumbent = window:oldest(tenant), probation:oldest(tenant) or protected:oldest(tenant)
      if candidate and incumbent then
        local name = ctx.chunk[candidate]
        if sketch:estimate(name) > sketch:estimate(ctx.chunk[incumbent]) then
          incumbent = probation:take(incumbent) or protected:take(incumbent)
          admit(candidate)
          return incumbent
        end
        sketch:add(name)
      end
      return window:pop(tenant) or probation:pop(tenant) or protected:pop(tenant)
    end

    return {
      insert = function(slot, e)
        sketch:add(e)
        window:push(slot)
      end,
      hit = function(slot, e)
        local home = window:home(slot) -- 1: the window
        if ctx.capacity ~= capacity then
          set_limits(ctx.capacity)
        end
        if home and (home > 1 or count_window ~= 0) then
          count_use(e)
        end
        if home == 2 and probation:has(slot) or home == 3 and protected:has(slot) then
          use(slot, home == 2)
        elseif home == 4 and surplus:has(slot) then
          probation:push(slot)
        else
          window:touch(slot)
        end
      end,
      keep = function(slot)
        return window:keep(slot) or probation:keep(slot) or protected:keep(slot)
          or surplus:owns(slot) and protected:push(slot)
      end,
      remove = function(slot)
        return window:remove(slot) or probation:remove(slot) or protected:remove(slot) or surplus:remove(slot)
      end,
      victims = function(out, max, tenant)
        set_limits(ctx.capacity)
        while window:count() > window_limit and probation:count() + protected:count() < main_limit do
          admit(window:oldest())
        end
        for i = 0, max - 1 do
          local slot = surplus:pop(tenant) or duel(tenant)
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
