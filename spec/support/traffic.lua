-- SPDX-License-Identifier: MIT
--
-- Requests without a pause, in a process of their own, until a file appears: stores a prompt, drops what nobody leases
-- from the first level, finds the prompt and an earlier one again and compares every byte. Each prompt must be found
-- whole; prompts are small, so that L2 keeps up. Ends with one line:
--
--   requests 1234 failed 0 slowest_ms 3.1 at 12.345 first_failure -
--
-- usage: luajit spec/support/traffic.lua ENDPOINT STOP_FILE NUMBER

local endpoint, stop_file, number = arg[1], arg[2], tonumber(arg[3])
package.path = './?.lua;./?/init.lua;' .. package.path
local client = require 'examples.worker.client'
local server = require 'spec.support.server'
local workload = require 'spec.support.workload'

local CHUNKS = 3
local TOKENS = CHUNKS * workload.CHUNK
local EARLIER, PROMPTS = 20, 1000 -- prompts come back after so many

local fake = { connect = function(_, options) return client.connect(endpoint, options) end }
local work = workload.new(fake, { timeout_ms = 10000, hidden = 16, instance_id = 100000 * number })

local requests, failed, slowest, slowest_at, first_failure = 0, 0, 0, 0, '-'

local function timed(action, ...)
  local started = server.now()
  local ok, result = pcall(action, ...)
  local took = (server.now() - started) * 1000
  requests = requests + 1
  if took > slowest then
    slowest, slowest_at = took, started
  end
  if not ok then
    failed = failed + 1
    if first_failure == '-' then first_failure = tostring(result) end
    return nil
  end
  return result
end

local function expect_whole(prompt)
  local chunks = work:hit_and_verify(prompt, TOKENS)
  if chunks ~= CHUNKS then error(('prompt %d: %d of %d chunks'):format(prompt, chunks, CHUNKS), 0) end
end

local function stopped()
  local file = io.open(stop_file)
  if file then file:close() end
  return file ~= nil
end

local round = 0
while not stopped() do
  local prompt = number * PROMPTS + round % PROMPTS
  timed(work.store, work, prompt, TOKENS)
  work.scheduler:clear(false)
  timed(expect_whole, prompt)
  if round >= EARLIER then timed(expect_whole, number * PROMPTS + (round - EARLIER) % PROMPTS) end
  round = round + 1
end
work:close()
print(('requests %d failed %d slowest_ms %.3f at %.6f first_failure %s'):format(requests, failed, slowest, slowest_at,
  first_failure))
