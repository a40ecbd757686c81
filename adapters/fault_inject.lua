-- SPDX-License-Identifier: MIT
--
-- fault_inject - LMCache's name for fault.

local fault = require 'fault'

return { FaultAdapter = fault.FaultAdapter, FaultAdapterConfig = fault.FaultAdapterConfig }
