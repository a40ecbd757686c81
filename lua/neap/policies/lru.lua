-- SPDX-License-Identifier: MIT
--
-- Least recently used. Chunks of one request are told tail first, so the head of a prompt ends more recent than its
-- tail, and leaves go before the prefixes that they hang on. Decides as the built-in LRU does.

local policy = require 'neap.policy'

return policy {
  name = 'lru',
  new = function(ctx)
    local order = policy.list(ctx.slots)
    return {
      insert = function(slot) order:push(slot) end,
      hit = function(slot) order:touch(slot) end,   -- not a victim that is on its way out
      keep = function(slot) order:keep(slot) end,   -- out of the way: it would be named again at once
      remove = function(slot) order:remove(slot) end,
      victim = function(tenant) return order:pop(tenant) end,
    }
  end,
}
