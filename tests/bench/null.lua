-- SPDX-License-Identifier: MIT
--
-- Two stores that keep nothing and have everything: what is left is the cost of asking. For bench_tier.

local neap = require 'neap'

local function yes()
  return true
end

local function yes_to_all(_, keys)
  local answers = {}
  for i = 1, #keys do
    answers[i] = true
  end
  return answers
end

return {
  Single = neap.adapter { store = yes, lookup = yes, load = yes },
  Batch = neap.adapter { store_batch = yes_to_all, lookup_batch = yes_to_all, load_batch = yes_to_all },
}
