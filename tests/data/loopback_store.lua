-- SPDX-License-Identifier: MIT
--
-- A store in memory whose every byte goes through a socket: each operation is a server and a client, run at the same
-- time. For tests of the runtime under sanitizers.

local neap = require 'neap'

local Loopback = {}

function Loopback:open(params)
  self.objects = {}
  self.target = params.path and { path = params.path } or { host = '127.0.0.1', port = 0 }
  local listener, code, message = neap.net.listen(self.target)
  if not listener then
    return nil, code, message
  end
  self.listener = listener
  self.target.port = listener:port()
  self.turn, self.serial = neap.semaphore(1), 0 -- one connects at a time
  self.pool = neap.pool { size = 4, open = function() return self:connect() end }
  return true
end

-- The far end of the connection that says `serial`; others were left behind by operations that were canceled.
function Loopback:accept(serial)
  while true do
    local far = assert(self.listener:accept())
    if far:read_until '\n' == tostring(serial) then
      return far
    end
    far:close()
  end
end

-- Both ends of a new connection, as one thing for the pool.
function Loopback:connect()
  self.turn:acquire()
  self.serial = self.serial + 1
  local serial = self.serial
  local ran, outcomes = pcall(neap.all, {
    function() return self:accept(serial) end,
    function()
      local near = assert(neap.net.connect(self.target))
      assert(near:write(serial .. '\n'))
      return near
    end,
  })
  self.turn:release()
  if not ran then
    error(outcomes, 0)
  elseif not (outcomes[1].ok and outcomes[2].ok) then
    return nil, 'EIO', outcomes[1].error or outcomes[2].error
  end
  return { far = outcomes[1][1], near = outcomes[2][1], closed = false, close = function(both)
    both.closed = true
    both.far:close()
    both.near:close()
  end }
end

-- Sends `from` through a connection into `to`.
function Loopback:pass(from, to)
  return self.pool:with(function(both)
    local outcomes = neap.all {
      function() return assert(both.near:write(('%d\n'):format(from:size()), from, '\n')) end,
      function()
        assert(both.far:read_until '\n' == tostring(from:size()))
        assert(both.far:read_exactly_into(to))
        return assert(both.far:read_exactly(1) == '\n')
      end,
    }
    if outcomes[1].ok and outcomes[2].ok then
      return true
    end
    return nil, 'EIO', outcomes[1].error or outcomes[2].error
  end)
end

function Loopback:store(key, buffer)
  local kept = neap.buffer(buffer:size())
  local ok, code, message = self:pass(buffer, kept)
  if ok then
    self.objects[key.text] = kept
  end
  return ok, code, message
end

function Loopback:lookup(key)
  local kept = self.objects[key.text]
  return kept and kept:size() or false
end

function Loopback:load(key, buffer)
  local kept = self.objects[key.text]
  if not kept then
    return false
  end
  return self:pass(kept, buffer)
end

function Loopback:delete(key)
  local kept = self.objects[key.text]
  self.objects[key.text] = nil
  return kept ~= nil
end

function Loopback:close()
  self.pool:close()
  self.listener:close()
end

return { LoopbackStore = neap.adapter(Loopback) }
