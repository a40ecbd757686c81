/* SPDX-License-Identifier: MIT
 *
 * A hung tier beside one that works: what becomes of those who fetch and store. */
#include "support/flow_rig.h"

static const char *const one_hangs[2] = {
    "{\"type\":\"scripted0\",\"deadline\":0.05,\"breaker\":{\"failures\":2,\"cooldown\":3600,\"cooldown_max\":3600}}",
    "{\"type\":\"scripted1\"}"};

static neap__tier_stats tier_stats(flow_rig *rig, uint32_t tier) {
  neap__tier_stats stats;
  neap__tier_view tiers;
  neap__tier_set_view(rig->engine->tiers, &tiers);
  neap__tier_stats_get(tiers.entries[tier].tier, &stats);
  neap__tier_view_drop(rig->engine->tiers, &tiers);
  return stats;
}

static void a_hung_tier_does_not_keep_the_other_ones_hits(void **state) {
  flow_rig *rig = *state;
  rig->config.l2_adapters = one_hangs;
  flow_open(rig, 2);
  neap__log_set_level(NEAP_ERROR);
  for (uint32_t n = 0; n < 40; n++) flow_put(1, n, 0);
  flow_hold(0, NEAP_OP_LOOKUP, true);
  for (uint32_t n = 0; n < 8; n += 4) assert_int_equal(flow_hits(rig, n, 4), 4); /* these two found it out */
  assert_int_equal(tier_stats(rig, 0).breaker, NEAP_BREAKER_OPEN);
  uint64_t begin = neap__now_ns();
  for (uint32_t n = 8; n < 40; n += 4) assert_int_equal(flow_hits(rig, n, 4), 4);
  assert_true(neap__now_ns() - begin < UINT64_C(10000000000)); /* eight fetches in a third of one deadline */
  assert_int_equal(flow_stores[0].calls[NEAP_OP_LOOKUP], 2);
  assert_int_equal(tier_stats(rig, 0).breaker_refused, 32);
  assert_int_equal(flow_fetches(rig).failed_deadline, 0);
}

static void a_hung_tier_does_not_keep_the_other_one_from_storing(void **state) {
  flow_rig *rig = *state;
  enum { COUNT = 32 * 20, HUNG = 8 + 1 }; /* eight at once, and one more after the first failure */
  rig->config.l2_adapters = one_hangs;
  rig->config.l1.pool_bytes = 4 * COUNT * FLOW_BYTES;
  flow_open(rig, 2);
  neap__log_set_level(NEAP_ERROR);
  flow_hold(0, NEAP_OP_STORE, true);
  for (uint32_t n = 0; n < COUNT; n++) assert_int_equal(flow_commit(rig, n), 0);
  flow_offer(rig, 0, COUNT);
  uint64_t end = neap__now_ns() + UINT64_C(30000000000);
  while (!flow_has(1, COUNT - 1) || flow_l1(rig).leases_used > 32 * HUNG) {
    flow_turn(rig);
    assert_true(neap__now_ns() < end);
  }
  for (uint32_t n = 0; n < COUNT; n++) assert_true(flow_has(1, n));
  assert_true(flow_stores[0].calls[NEAP_OP_STORE] <= HUNG);
  assert_true(flow_l1(rig).leases_used >= 32); /* what the hung adapter may still read stays pinned, and only that */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, flow_setup, flow_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_hung_tier_does_not_keep_the_other_ones_hits),
      TEST(a_hung_tier_does_not_keep_the_other_one_from_storing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
