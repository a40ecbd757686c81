/* SPDX-License-Identifier: MIT
 *
 * The journey down: what a commit leads to in every tier, what happens when a tier fails, lags or hangs. */
#include "support/flow_rig.h"

#include "support/test_host.h" /* test_filled */

static void commit(flow_rig *rig, uint32_t first, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) assert_int_equal(flow_commit(rig, first + i), 0);
}

static void an_offer_reaches_every_tier_once_and_its_lease_ends(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 3);
  commit(rig, 0, 16);
  flow_offer(rig, 0, 16);
  flow_settle(rig);
  for (uint32_t store = 0; store < 3; store++)
    for (uint32_t n = 0; n < 16; n++) {
      assert_int_equal(flow_stores[store].stores[n * FLOW_ROWS], 1);
      assert_true(test_filled(flow_stores[store].data[n * FLOW_ROWS], FLOW_BYTES, n * FLOW_ROWS));
    }
  assert_int_equal(flow_l1(rig).leases_used, 0);
  assert_int_equal(flow_l1(rig).objects, 16);
  neap__storer_stats stats = flow_storing(rig);
  assert_int_equal(stats.completed_objects, 48);
  assert_int_equal(stats.submitted_objects, 48);
  assert_int_equal(stats.pending_bytes + stats.pending_objects + stats.in_flight, 0);
}

static void what_is_being_stored_stays_in_l1(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  commit(rig, 0, 1);
  flow_hold(0, NEAP_OP_STORE, true);
  flow_offer(rig, 0, 1);
  flow_wait_held(0, 1);
  neap__key key = flow_key(rig, 0, 0);
  assert_int_equal(neap__l1_remove(rig->l1, &key, false), NEAP_EBUSY);
  assert_int_equal(flow_storing(rig).pending_bytes, FLOW_BYTES);
  flow_finish_all(0);
  flow_settle(rig);
  assert_int_equal(neap__l1_remove(rig->l1, &key, false), 0);
}

static void without_tiers_an_offer_does_nothing(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 0);
  commit(rig, 0, 1);
  flow_offer(rig, 0, 1);
  assert_int_equal(flow_l1(rig).leases_used, 0);
  assert_int_equal(flow_storing(rig).refused_objects, 0);
}

static void an_offer_of_what_l1_does_not_have_is_passed_over(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  commit(rig, 1, 1);
  flow_offer(rig, 0, 3);
  flow_settle(rig);
  assert_true(flow_has(0, 1));
  assert_int_equal(flow_storing(rig).submitted_objects, 1);
}

static void a_store_that_fails_keeps_the_l1_copy_and_the_next_one_works(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 2);
  neap__log_set_level(NEAP_ERROR);
  commit(rig, 0, 2);
  flow_force(0, NEAP_OP_STORE, 0, NEAP_EIO);
  flow_offer(rig, 0, 1);
  flow_settle(rig);
  flow_offer(rig, 1, 1);
  flow_settle(rig);
  assert_true(flow_resident(rig, 0) && flow_resident(rig, 1));
  assert_false(flow_has(0, 0));
  assert_true(flow_has(1, 0) && flow_has(0, 1));
  assert_int_equal(flow_storing(rig).failed_objects, 1);
  assert_int_equal(flow_storing(rig).completed_objects, 3);
  assert_int_equal(flow_l1(rig).leases_used, 0);
}

static void a_queue_that_is_full_refuses_and_counts(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1); /* half of 64 objects may wait */
  commit(rig, 0, 40);
  flow_hold(0, NEAP_OP_STORE, true);
  flow_offer(rig, 0, 40);
  assert_int_equal(flow_storing(rig).pending_objects, 32);
  assert_int_equal(flow_storing(rig).refused_objects, 8);
  assert_int_equal(flow_storing(rig).refused_bytes, 8 * FLOW_BYTES);
  assert_int_equal(flow_l1(rig).leased, 32);
  flow_finish_all(0);
  flow_settle(rig);
  assert_true(flow_has(0, 31));
  assert_false(flow_has(0, 32));
  flow_offer(rig, 32, 8);
  flow_settle(rig);
  assert_true(flow_has(0, 32));
}

static void a_tier_that_does_not_persist_is_left_out(void **state) {
  flow_rig *rig = *state;
  static const char *const adapters[] = {"{\"type\":\"scripted0\"}",
                                         "{\"type\":\"scripted1\",\"persist_enabled\":false}"};
  rig->config.skip_l1 = true;
  rig->config.l2_adapters = adapters;
  flow_open(rig, 2);
  commit(rig, 0, 1);
  flow_offer(rig, 0, 1);
  flow_settle(rig);
  assert_true(flow_has(0, 0));
  assert_false(flow_has(1, 0));
  assert_true(flow_resident(rig, 0));
}

static void a_second_layout_of_a_model_stays_out_of_l2(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  uint32_t first = rig->space;
  neap__layout other;
  const uint64_t shape[1] = {FLOW_BYTES};
  assert_int_equal(neap__layout_init(&other, shape, 1, "bfloat16", 16, NULL), 0);
  assert_int_equal(neap__names_space(rig->engine->names, "demo/tiny", 9, &other, &rig->space), 0);
  commit(rig, 0, 1);
  flow_offer(rig, 0, 1);
  flow_put(0, 1, 0);
  assert_int_equal(flow_hits(rig, 0, 2), 1); /* what is in L1, though a store has a 1 of the other layout */
  flow_settle(rig);
  assert_int_equal(flow_stores[0].calls[NEAP_OP_STORE] + flow_stores[0].calls[NEAP_OP_LOOKUP], 0);
  assert_int_equal(flow_storing(rig).refused_objects, 0);
  rig->space = first;
}

/* --- skip_l1 -------------------------------------------------------------------------------------------------- */

static void skip_l1_drops_the_copy_only_after_every_tier_has_it(void **state) {
  flow_rig *rig = *state;
  rig->config.skip_l1 = true;
  flow_open(rig, 2);
  commit(rig, 0, 1);
  flow_hold(1, NEAP_OP_STORE, true);
  flow_offer(rig, 0, 1);
  flow_wait_held(1, 1);
  flow_turn(rig);
  assert_true(flow_has(0, 0));
  assert_true(flow_resident(rig, 0));
  flow_finish_all(1);
  flow_settle(rig);
  assert_true(flow_has(1, 0));
  assert_false(flow_resident(rig, 0));
}

static void skip_l1_keeps_what_a_tier_could_not_store_and_only_that(void **state) {
  flow_rig *rig = *state;
  rig->config.skip_l1 = true;
  flow_open(rig, 2);
  commit(rig, 0, 3);
  flow_force(1, NEAP_OP_STORE, 1, NEAP_EIO);
  neap__key keys[3];
  for (uint32_t n = 0; n < 3; n++) keys[n] = flow_key(rig, n, 0);
  neap__storer_offer(rig->engine->storer, 0, 3, keys, NULL);
  flow_settle(rig);
  assert_false(flow_resident(rig, 0) || flow_resident(rig, 2));
  assert_true(flow_resident(rig, 1));
}

static void skip_l1_leaves_what_somebody_reads(void **state) {
  flow_rig *rig = *state;
  rig->config.skip_l1 = true;
  flow_open(rig, 1);
  commit(rig, 0, 1);
  neap__lease lease = flow_lease(rig, 0);
  flow_offer(rig, 0, 1);
  flow_settle(rig);
  assert_true(flow_has(0, 0));
  neap__view view;
  assert_int_equal(neap__l1_view(rig->l1, lease, &view), 0);
  assert_true(test_filled(view.data, FLOW_BYTES, 0));
  neap__l1_release(rig->l1, lease, UINT32_MAX);
}

/* --- closing -------------------------------------------------------------------------------------------------- */

static neap__storer *own_storer(flow_rig *rig) {
  neap__storer *storer = NULL;
  neap__storer_config config = {.l1 = rig->l1,
                                .loop = rig->engine->loop,
                                .tiers = rig->engine->tiers,
                                .stream = rig->engine->stream,
                                .known = rig->engine->known,
                                .pending_bytes_max = 1 << 20};
  assert_int_equal(neap__storer_open(&config, &storer), 0);
  return storer;
}

static void close_waits_for_what_was_offered(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  commit(rig, 0, 8);
  for (uint32_t round = 0; round < 500; round++) { /* the last batch ends while close looks */
    neap__storer *storer = own_storer(rig);
    neap__key key = flow_key(rig, round % 8, 0);
    neap__storer_offer(storer, 0, 1, &key, NULL);
    neap__storer_close(storer, 30000);
  }
  for (uint32_t n = 0; n < 8; n++) assert_true(flow_has(0, n));
}

static void close_is_bounded_and_what_waits_in_the_queue_is_let_go(void **state) {
  flow_rig *rig = *state;
  enum { BATCHES = 8, COUNT = 32 * BATCHES + 10 };
  rig->config.l1.pool_bytes = 2 * COUNT * FLOW_BYTES;
  flow_open(rig, 1);
  neap__log_set_level(NEAP_ERROR + 1);
  flow_hold(0, NEAP_OP_STORE, true);
  commit(rig, 0, COUNT);
  neap__storer *storer = own_storer(rig);
  neap__key keys[COUNT];
  for (uint32_t n = 0; n < COUNT; n++) keys[n] = flow_key(rig, n, 0);
  neap__storer_offer(storer, 0, COUNT, keys, NULL);
  flow_wait_held(0, BATCHES);
  assert_true(flow_l1(rig).leases_used == COUNT);
  neap__storer_close(storer, 20);
  assert_int_equal(flow_l1(rig).leases_used, COUNT - 10); /* the adapter may still read them */
  flow_finish_all(0);
  flow_settle(rig);
  assert_int_equal(flow_l1(rig).leases_used, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, flow_setup, flow_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(an_offer_reaches_every_tier_once_and_its_lease_ends),
      TEST(what_is_being_stored_stays_in_l1),
      TEST(without_tiers_an_offer_does_nothing),
      TEST(an_offer_of_what_l1_does_not_have_is_passed_over),
      TEST(a_store_that_fails_keeps_the_l1_copy_and_the_next_one_works),
      TEST(a_queue_that_is_full_refuses_and_counts),
      TEST(a_tier_that_does_not_persist_is_left_out),
      TEST(a_second_layout_of_a_model_stays_out_of_l2),
      TEST(skip_l1_drops_the_copy_only_after_every_tier_has_it),
      TEST(skip_l1_keeps_what_a_tier_could_not_store_and_only_that),
      TEST(skip_l1_leaves_what_somebody_reads),
      TEST(close_waits_for_what_was_offered),
      TEST(close_is_bounded_and_what_waits_in_the_queue_is_let_go),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
