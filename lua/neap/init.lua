-- SPDX-License-Identifier: MIT
--
-- neap - what a script may use. Hooks are written as if they blocked: functions marked "awaits" suspend the hook's
-- coroutine, and the loop runs other operations meanwhile. They work in hooks only (not while the module is loaded)
-- and not inside a coroutine that the script made itself.

local await = require 'neap.await'
local concurrent = require 'neap.concurrent'
local core = require 'neap.core'

---@class neap
local neap = {
  adapter = require 'neap.adapter',
  all = concurrent.all,
  file = require 'neap.file',
  log = require 'neap.log',
  net = require 'neap.net',
  --- Opens another adapter for this one's own use; awaits. See neap.store.
  open = require 'neap.store',
  pool = require 'neap.pool',
  semaphore = concurrent.semaphore,
  --- Zeroed C memory: `buffer`, or nil, 'ENOMEM', message.
  buffer = core.buffer,
  --- The key whose text (or file name, with 'file') this is, or nil.
  key = core.key,
  --- Seconds of the clock that deadlines use; only differences mean anything.
  now = core.now,
  --- Bytes that the buffers of this script hold.
  memory = core.memory,
}

--- Awaits.
---@type fun(seconds: number)
neap.sleep = await(core.sleep)

return neap
