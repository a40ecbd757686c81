-- SPDX-License-Identifier: MIT
--
-- neap.pool - connections (or anything that is opened, used by one coroutine at a time, and closed) kept for reuse.
-- One whose user raised or failed is closed, not reused; so is one that lay idle for too long or fails its check.

local core = require 'neap.core'

---@class neap.PoolOptions
---@field open fun(): any, string?, string? awaits; a connection, or nil, code, message
---@field size? integer how many may be open at a time; 8 if missing
---@field idle? number seconds that one is kept unused; 60 if missing
---@field wait? number seconds to wait for one when all are busy; 30 if missing
---@field check? fun(conn: any): boolean is an unused one still good? If missing: not closed, and nothing to be read

---@class neap.Pool
---@field package options neap.PoolOptions
---@field package free table[] unused ones, { conn, at }; the last is the one used last
---@field package permits neap.Semaphore
local Pool = {}
Pool.__index = Pool

local kinds = { open = 'function', size = 'number', idle = 'number', wait = 'number', check = 'function' }

local function default_check(conn)
  return not conn.closed and (not conn.idle or conn:idle())
end

---@param options neap.PoolOptions
---@return neap.Pool
local function new(options)
  if type(options) ~= 'table' then
    error(('neap.pool: got a %s, expected a table of options'):format(type(options)), 2)
  end
  for name, value in pairs(options) do
    if not kinds[name] then
      error(("neap.pool: unknown option '%s'; expected open, size, idle, wait or check"):format(tostring(name)), 2)
    elseif type(value) ~= kinds[name] then
      error(('neap.pool: %s is a %s, expected a %s'):format(name, type(value), kinds[name]), 2)
    end
  end
  local size = options.size or 8
  if not options.open then
    error("neap.pool: 'open' is missing", 2)
  elseif not (size >= 1 and size <= 10000 and size % 1 == 0) then
    error(('neap.pool: size is %s, expected a whole number from 1 to 10000'):format(tostring(size)), 2)
  end
  return setmetatable({
    open = options.open, check = options.check or default_check, idle = options.idle or 60, wait = options.wait or 30,
    free = {}, permits = core.semaphore(size), closed = false,
  }, Pool)
end

-- Closes what has been unused for too long; the oldest are first.
local function sweep(pool)
  local free, now = pool.free, core.now()
  while free[1] and now - free[1].at > pool.idle do
    table.remove(free, 1).conn:close()
  end
end

local function take(pool)
  sweep(pool)
  local free = pool.free
  while #free > 0 do
    local conn = table.remove(free).conn
    local ok, good = pcall(pool.check, conn)
    if ok and good then
      return conn
    end
    conn:close()
  end
  if pool.closed then
    return nil, 'ECLOSED', 'the pool is closed'
  end
  return pool.open()
end

local function give_back(pool, conn, fit)
  if fit and not pool.closed and not conn.closed then
    pool.free[#pool.free + 1] = { conn = conn, at = core.now() }
  else
    conn:close()
  end
  sweep(pool)
end

local function finish(pool, conn, ok, first, ...)
  give_back(pool, conn, ok and (first or select('#', ...) == 0))
  pool.permits:release()
  if not ok then
    error(first, 0)
  end
  return first, ...
end

--- Calls f with a connection and returns what it returns. The connection is closed instead of kept if f raises or
--- returns nil (or false) and a code. nil, code, message if there is none to be had. Awaits.
---@param f fun(conn: any): any
---@return any
---@return string? code
---@return string? message
function Pool:with(f)
  local ok, code, message = self.permits:acquire(self.wait > 0 and self.wait or nil)
  if not ok then
    return nil, code, 'pool: all connections are busy: ' .. message
  end
  local taken, conn
  taken, conn, code, message = pcall(take, self)
  if not taken then
    self.permits:release()
    error(conn, 0)
  elseif not conn then
    self.permits:release()
    return nil, code, message
  end
  return finish(self, conn, pcall(f, conn))
end

--- Closes the unused ones now and those in use when they come back. Does not await.
function Pool:close()
  self.closed = true
  for _, entry in ipairs(self.free) do
    entry.conn:close()
  end
  self.free = {}
end

return new
