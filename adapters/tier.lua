-- SPDX-License-Identifier: MIT
--
-- tier - fast stores before slow ones.
--
--   {"type": "tier", "write": "first", "promote": true, "stores": [{"type": "fs", ...}, {"type": "s3", ...}]}
--
-- A load asks the stores in order. With `promote`, what a slower store had is given to the first one before the load
-- ends. `write` says whether an object goes to the first store that takes it, or to all of them.

local neap = require 'neap'
local stores = require 'neap.stores'

local M = {}

M.TierAdapterConfig = {
  stores = { type = 'array', required = true, min = 1, max = 16, doc = 'configurations of the stores, fastest first' },
  write = { type = 'string', enum = { 'first', 'all' }, default = 'first', live = true, doc = 'where an object goes' },
  promote = { type = 'boolean', default = false, live = true, doc = 'give what is found below to the first store' },
  rest = { type = 'number', min = 0, default = 5, live = true, doc = 'seconds for which a store that failed is left' },
}

M.TierAdapter = neap.adapter {
  version = '1.0',

  open = function(self, params)
    local code, message
    self.stores, code, message = stores.open(params.stores, 'stores')
    if not self.stores then
      return nil, code, message
    end
    self:reconfigure(params)
  end,

  reconfigure = function(self, params)
    self.write, self.promote, self.rest = params.write, params.promote, params.rest
  end,

  store_batch = function(self, keys, buffers)
    local copies = self.write == 'all' and #self.stores or 1
    return stores.write(stores.usable(self.stores), keys, buffers, copies, 1, self.rest)
  end,

  lookup_batch = function(self, keys)
    return stores.first('lookup', stores.usable(self.stores), keys, nil, self.rest)
  end,

  load_batch = function(self, keys, buffers)
    local members = stores.usable(self.stores)
    return stores.first('load', members, keys, buffers, self.rest, function(at, places)
      if self.promote and at > 1 then
        stores.call_at('store', members[1], keys, buffers, self.rest, places)
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
    return stores.status(self.stores, 1)
  end,
}

return M
