-- SPDX-License-Identifier: MIT
--
-- mirror - every object in several stores.
--
--   {"type": "mirror", "copies": 2, "quorum": 1, "stores": [{"type": "fs", ...}, {"type": "redis", ...}]}
--
-- A store writes `copies` copies, to the first stores that take one, and succeeds with `quorum` of them; with fewer,
-- what was written is removed again. A load takes the first copy that is whole. Usage counts one copy.

local neap = require 'neap'
local stores = require 'neap.stores'

local M = {}

M.MirrorAdapterConfig = {
  stores = { type = 'array', required = true, min = 1, max = 16, doc = 'configurations of the stores, best first' },
  copies = { type = 'integer', min = 1, max = 16, doc = 'how many stores get an object; all of them if not given' },
  quorum = { type = 'integer', min = 1, max = 16, default = 1, doc = 'copies without which a store has failed' },
  repair = { type = 'boolean', default = false, live = true, doc = 'give what is loaded to stores that lacked it' },
  rest = { type = 'number', min = 0, default = 5, live = true, doc = 'seconds for which a store that failed is left' },
}

M.MirrorAdapter = neap.adapter {
  version = '1.0',

  open = function(self, params)
    local code, message
    self.stores, code, message = stores.open(params.stores, 'stores')
    if not self.stores then
      return nil, code, message
    end
    self.copies = params.copies or #self.stores
    self.quorum = params.quorum
    if self.copies > #self.stores then
      return nil, 'EINVAL', ('copies is %d, expected at most the %d stores'):format(self.copies, #self.stores)
    elseif self.quorum > self.copies then
      return nil, 'EINVAL', ('quorum is %d, expected at most the %d copies'):format(self.quorum, self.copies)
    end
    self:reconfigure(params)
  end,

  reconfigure = function(self, params)
    self.repair, self.rest = params.repair, params.rest
  end,

  store_batch = function(self, keys, buffers)
    return stores.write(stores.usable(self.stores), keys, buffers, self.copies, self.quorum, self.rest)
  end,

  lookup_batch = function(self, keys)
    return stores.first('lookup', stores.usable(self.stores), keys, nil, self.rest)
  end,

  load_batch = function(self, keys, buffers)
    local members = stores.usable(self.stores)
    return stores.first('load', members, keys, buffers, self.rest, function(at, places)
      for lacking = 1, self.repair and at - 1 or 0 do
        stores.call_at('delete', members[lacking], keys, nil, self.rest, places) -- what is there is damaged
        stores.call_at('store', members[lacking], keys, buffers, self.rest, places)
      end
    end)
  end,

  delete_batch = function(self, keys)
    return stores.delete(self.stores, keys, self.rest)
  end,

  list = function(self, emit)
    return stores.list(self.stores, emit)
  end,

  status = function(self)
    return stores.status(self.stores, self.quorum)
  end,
}

return M
