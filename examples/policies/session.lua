-- SPDX-License-Identifier: MIT
local policy = require 'neap.policy'

local SESSIONS = 4096 -- two that share a number are taken for one

return policy {
  name = 'session',
  params = {
    turns = { 3, min = 1, max = 1000 }, -- a session needs what it used in its last so many requests
    patience = { 2, min = 0, max = 1000 }, -- it is over when it was silent for so many of its usual pauses
    ghosts = { 4, min = 0, max = 64 }, -- names to remember, in capacities
  },
  new = function(ctx)
    local turns, patience = ctx.params.turns, ctx.params.patience
    local once, again = policy.lists(ctx.slots, 2) -- used once, and more often; the least recently used is the oldest
    local gone = policy.ghost(ctx.params.ghosts * ctx.slots) -- what was evicted, with the request that used it last
    local used = policy.column(ctx.slots, 'uint32') -- by slot: the request that used it last,
    local owner = policy.column(ctx.slots, 'uint16') -- the session of that request,
    local turn = policy.column(ctx.slots, 'uint32') -- and which one of the session's it was
    local count = policy.column(SESSIONS, 'uint32') -- by session: requests,
    local last = policy.column(SESSIONS, 'uint32') -- the last of them,
    local pause = policy.column(SESSIONS) -- and how many there are from one to the next: a decaying average
    local now, session, returned = 0, 0, false

    local function needed(slot)
      local s = owner[slot]
      return count[s] - turn[slot] < turns and now - last[s] <= patience * pause[s]
    end

    local function use(slot, list)
      used[slot], owner[slot], turn[slot] = now, session, count[session]
      list:push(slot)
    end

    return {
      request = function(_, e)
        now, session, returned = now + 1, e.h1 % SESSIONS, false
        local since = now - last[session]
        if count[session] > 0 then
          pause[session] = pause[session] == 0 and since or pause[session] + 0.25 * (since - pause[session])
        end
        count[session], last[session] = count[session] + 1, now
      end,

      -- A prompt that came back sooner than the oldest of `again` has been waiting is worth more than that. This is
      -- asked chunk by chunk, tail first; once it is true it is for all that is left of the prompt, for a tail without
      -- its head is of no use.
      insert = function(slot, e)
        local known, when = gone:take(e)
        local oldest = again:oldest()
        returned = returned or known and oldest and when > used[oldest]
        use(slot, known and returned and again or once)
      end,

      hit = function(slot)
        if once:owns(slot) or again:owns(slot) then use(slot, again) end
      end,

      -- The least recently used of all, as LRU would say; but what is still needed is not given for what is new.
      victim = function(tenant)
        local new, old = once:oldest(tenant), again:oldest(tenant)
        if not new or old and ctx.chunk[old].order < ctx.chunk[new].order and not needed(old) then
          return again:pop(tenant)
        end
        return once:pop(tenant)
      end,

      remove = function(slot, e)
        gone:add(e, 1, used[slot])
        if not once:remove(slot) then again:remove(slot) end
      end,

      keep = function(slot)
        if not once:keep(slot) then again:keep(slot) end
      end,
    }
  end,
}
