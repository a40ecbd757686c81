-- SPDX-License-Identifier: MIT
--
-- Requests without a pause, in a process of their own, until a file appears: prompts that come back, more of them than
-- the first level holds, so that it evicts all the time. What is found is read and compared, what is missing stored.
-- Ends with one line:
--
--   requests 1234 failed 0 first_failure -
--
-- usage: luajit spec/support/churn.lua ENDPOINT STOP_FILE NUMBER

local endpoint, stop_file, number = arg[1], arg[2], tonumber(arg[3])
package.path = './?.lua;./?/init.lua;' .. package.path
local client = require 'examples.worker.client'
local workload = require 'spec.support.workload'

local fake = { connect = function(_, options) return client.connect(endpoint, options) end }
local work = workload.new(fake, { timeout_ms = 10000, hidden = 512, instance_id = 100000 * number })
local requests, failed, first_failure = 0, 0, '-'

local function request()
  local prompt = 1000 * number + math.floor(60 * math.random() ^ 2)
  local chunks = math.random(1, 6)
  local tokens = chunks * workload.CHUNK
  if work:hit_and_verify(prompt, tokens) < chunks then work:store(prompt, tokens) end
end

local function stopped()
  local file = io.open(stop_file)
  if file then file:close() end
  return file ~= nil
end

math.randomseed(number)
while not stopped() do
  local ok, failure = pcall(request)
  requests = requests + 1
  if not ok then
    failed = failed + 1
    if first_failure == '-' then first_failure = tostring(failure) end
  end
end
work:close()
print(('requests %d failed %d first_failure %s'):format(requests, failed, first_failure))
