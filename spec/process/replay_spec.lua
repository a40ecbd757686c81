-- SPDX-License-Identifier: MIT
--
-- Recorded conversations of vLLM with LMCache's server, played to this server: the same frames, equal answers. Where
-- LMCache's recorded answer was one of its defects, the exception says so and what is expected instead.

local replay = require 'spec.support.replay'
local server = require 'spec.support.server'

-- A restarted server that lost its registrations answers the first ping of an unknown worker with false, so that the
-- worker registers again; LMCache answers true and the worker never notices.
local unknown_worker = {
  op = 'ping',
  reason = 'LMCache: the ping of an unknown worker is true',
  accept = function(got, _, request) return got == 'false' and tonumber(request.args[1]) ~= nil end,
}

-- The pool and the registrations outlive the process; LMCache finds neither and recomputes the prompt.
local still_there = {
  op = 'query_prefetch_status',
  reason = 'LMCache: a restart within one ping window forgets the worker',
  accept = function(got, recorded) return got == '4' and recorded == '0' end,
}

describe('the recorded conversation of', function()
  local directory, l2, running, player

  before_each(function()
    directory = server.directory()
    l2 = directory .. '/l2'
    running = server.start {
      directory = directory, l1_size_gb = 0.5, l2 = { ('{"type":"fs","base_path":"%s"}'):format(l2) },
    }
    player = replay.new(running, l2)
  end)

  after_each(function()
    if running then running:discard() end
    if player then player:close() end
    running, player = nil, nil
  end)

  local function play(...)
    for _, name in ipairs { ... } do player:play(name) end
  end

  local function same()
    assert.same({}, player.differences)
    assert.is_true(player.compared > 0)
  end

  it('one vLLM, cold, warm, concurrent, aborted, salted and cleared, has equal answers', function()
    play('01_startup_register', '02_cold_272', '03_repeat_272_hit', '04_cold_1200', '05_repeat_1200_hit',
         '06_extended_tail_partial_hit', '07_short_100', '08_exact_512_cold_then_full_hit',
         '09_concurrent4_shared_prefix_cold', '10_concurrent4_shared_prefix_hit', '11_abort_mid_decode',
         '12_abort_early_cold', '14_cache_salt', '16_clear_force_then_l2_hit', '17_l2_partial_hit_then_store',
         '18_request_configs', '19_idle_pings')
    same()
  end)

  it('a vLLM whose server is killed and comes back is answered where LMCache fell silent', function()
    play('01_startup_register', '02_cold_272', '04_cold_1200')
    player:settle()
    player:hang_up()
    running:kill()
    running:restart()
    player:play('20_restart_11s_no_reregistration_engine_dies', { still_there })
    same()
  end)

  it('a vLLM whose server restarts twice registers again and hits L2', function()
    play('01_startup_register', '02_cold_272', '04_cold_1200')
    for _, name in ipairs { '21_restart_26s_reregister_then_l2_hit', '22_down_46s_with_requests' } do
      player:settle()
      player:hang_up()
      running:stop()
      running:restart()
      player:play(name, { unknown_worker })
    end
    same()
  end)

  it('a vLLM with prefix caching, freed locks, stored decode tokens and aborts has equal answers', function()
    play('24_apc_kvevents_startup', '25_apc_cold_600', '26_apc_full_overlap_free_locks',
         '27_cold_1200_then_local_reset', '28_partial_apc_free_unaligned_end', '29_save_decode_cache',
         '30_reset_external_clear_false', '32_abort_variants')
    same()
  end)

  it('two tensor-parallel workers has equal answers', function()
    play('40_tp2_startup', '41_tp2_cold_600', '42_tp2_hit_600', '43_tp2_partial', '44_tp2_shutdown_unregister')
    same()
  end)
end)
