-- SPDX-License-Identifier: MIT
--
-- neap.policy_check - how the prelude of policies refuses: in the words of its argument, with the line of the policy.

local core = require 'neap.core'
local debug = require 'debug'

local error, floor, pairs, setfenv, type = error, math.floor, pairs, setfenv, type
local getinfo = debug.getinfo

local check = { SLOTS_MAX = 2 ^ 31 - 4 }

local here = getinfo(1, 'S').source:match('^(.*)_check%.lua$') -- the files of the prelude begin like this

-- Where a message belongs that no frame tells of: "FILE:LINE: ", or nothing. Set while a file runs.
local locate = function()
  return ''
end
function check.set_locate(f)
  locate = f
end

-- Raises with the line of the policy that called. A tail call may have taken it: `return policy { ... }` is one.
local function blame(text, ...)
  local message = text:format(...)
  for level = 2, 20 do
    local at = getinfo(level, 'Sl')
    if not at then
      break
    elseif at.what ~= 'C' and at.currentline > 0 and at.source:sub(1, #here) ~= here then
      error(('%s:%d: %s'):format(at.short_src, at.currentline, message), 0)
    end
  end
  error(locate(message) .. message, 0)
end
check.blame = blame

local function show(value)
  return type(value) == 'number' and ('%.17g'):format(value) or type(value) == 'string' and ("'%s'"):format(value)
    or type(value)
end
check.show = show

--- What may have been meant by a word that is not among the keys of `known`: the end of a sentence.
---@param word any
---@param known table<string, any>
---@return string
function check.meant(word, known)
  local names = {}
  for name in pairs(known) do
    names[#names + 1] = name
  end
  table.sort(names)
  local near = core.nearest(tostring(word), names)
  return near and (", did you mean '%s'?"):format(near) or '; there are ' .. table.concat(names, ', ')
end

--- A whole number in those bounds.
function check.whole(part, what, value, least, most)
  if type(value) ~= 'number' or not (value >= least and value <= most) then
    blame('%s: %s is %s, expected a number from %d to %.0f', part, what, show(value), least, most)
  end
  return floor(value)
end

function check.no_slot(part, slot, slots)
  blame('%s: slot is %s, expected 0 to %d', part, show(slot), slots - 1)
end

-- The methods of a part keep its memory alive, as their environment: there nobody finds it who has no getfenv, and no
-- compiled code loads it.
function check.own(part, memory)
  local environment = { memory = memory }
  for _, method in pairs(part) do
    setfenv(method, environment)
  end
  return part
end

return check
