-- SPDX-License-Identifier: MIT
--
-- RESPL2Adapter - the Redis store under LMCache's name and with LMCache's parameters, so that its configurations work
-- as they are. Everything else is redis.lua.

local neap = require 'neap'
local redis = require 'redis'

local M = {}

M.RESPL2AdapterConfig = {
  host = { type = 'string', required = true, doc = 'name or address of the server' },
  port = { type = 'integer', required = true, min = 1, max = 65535 },
  num_workers = { type = 'integer', min = 1, max = 64, default = 8, doc = 'connections' },
  username = { type = 'string', default = '', doc = 'default: LMCACHE_RESP_USERNAME of the environment' },
  password = { type = 'string', default = '', doc = 'default: LMCACHE_RESP_PASSWORD of the environment' },
}

-- The environment keeps secrets out of configurations.
local function or_environment(text, name)
  return text ~= '' and text or os.getenv(name) or ''
end

local class = {}
for name, value in pairs(redis.RedisAdapter) do
  class[name] = value
end

function class.open(self, params)
  local all = {}
  for name, parameter in pairs(redis.RedisAdapterConfig) do
    all[name] = parameter.default
  end
  all.host, all.port, all.connections = params.host, params.port, params.num_workers
  all.username = or_environment(params.username, 'LMCACHE_RESP_USERNAME')
  all.password = or_environment(params.password, 'LMCACHE_RESP_PASSWORD')
  return redis.open(self, all)
end

M.RESPL2Adapter = neap.adapter(class)

return M
