/* SPDX-License-Identifier: MIT
 *
 * The journey up: what a lookup answers, what it leases, what it loads, and what is left when it is over. */
#include "support/flow_rig.h"

#define DEADLINE_MS 60u

static void put(uint32_t store, uint32_t first, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) flow_put(store, first + i, 0);
}

static void commit(flow_rig *rig, uint32_t first, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) assert_int_equal(flow_commit(rig, first + i), 0);
}

/* --- L1 ------------------------------------------------------------------------------------------------------- */

static void what_l1_has_is_final_inside_start_and_leased_exactly(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  commit(rig, 0, 4);
  flow_fetch *f = flow_ask(rig, 0, 4);
  assert_true(flow_final(f));
  assert_int_equal(flow_answer(f), 4);
  assert_int_equal(flow_l1(rig).leases_used, 4);
  flow_end(f);
  assert_int_equal(flow_stores[0].calls[NEAP_OP_LOOKUP], 0);
  assert_int_equal(flow_fetches(rig).l1_objects_hit, 4);
  assert_int_equal(flow_l1(rig).leases_used, 0);
}

static void without_tiers_the_prefix_in_l1_is_the_answer_at_once(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 0);
  commit(rig, 0, 2);
  commit(rig, 3, 2);
  flow_fetch *f = flow_ask(rig, 0, 5);
  assert_true(flow_final(f));
  assert_int_equal(flow_answer(f), 2);
  assert_int_equal(flow_l1(rig).leases_used, 2);
  flow_end(f);
}

static void a_fetch_of_no_chunks_is_final_with_none(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  assert_int_equal(flow_hits(rig, 0, 0), 0);
}

static void a_matrix_beyond_the_bound_is_refused(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  neap__fetch *fetch = NULL;
  neap__fetch_request request = {.chunks = 1 << 12, .rows = (1 << 8) + 1, .readers = 1};
  assert_int_equal(neap__fetch_start(rig->engine->fetcher, &request, &fetch), NEAP_ELIMIT);
  request.chunks = 1u << 31, request.rows = 1u << 31; /* their product is 0 in 32 bits */
  assert_int_equal(neap__fetch_start(rig->engine->fetcher, &request, &fetch), NEAP_ELIMIT);
  request.chunks = 1, request.rows = 0;
  assert_int_equal(neap__fetch_start(rig->engine->fetcher, &request, &fetch), NEAP_ELIMIT);
  assert_null(fetch);
  assert_int_equal(flow_fetches(rig).lookups, 0);
}

static void a_taken_lease_belongs_to_the_caller(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 0);
  commit(rig, 0, 2);
  flow_fetch *f = flow_ask(rig, 0, 2);
  neap__lease lease = neap__fetch_lease(f->fetch, 1, 0, true);
  assert_int_not_equal(lease, NEAP_NO_LEASE);
  assert_int_equal(neap__fetch_lease(f->fetch, 1, 0, true), NEAP_NO_LEASE);
  flow_end(f);
  assert_int_equal(flow_l1(rig).leases_used, 1);
  assert_int_equal(neap__l1_release(rig->l1, lease, UINT32_MAX), 0);
}

/* --- L2 ------------------------------------------------------------------------------------------------------- */

static void l2_fills_what_l1_lacks(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  commit(rig, 1, 1);
  commit(rig, 3, 1);
  put(0, 0, 5);
  flow_fetch *f = flow_ask(rig, 0, 5);
  assert_int_equal(flow_answer(f), 5);
  assert_int_equal(flow_l1(rig).leases_used, 5);
  flow_end(f);
  flow_settle(rig);
  assert_int_equal(flow_stores[0].loads[1 * FLOW_ROWS], 0); /* L1 had it */
  assert_int_equal(flow_stores[0].loads[2 * FLOW_ROWS], 1);
  neap__fetcher_stats stats = flow_fetches(rig);
  assert_int_equal(stats.l1_objects_hit, 2);
  assert_int_equal(stats.l2_objects_hit, 3);
  assert_int_equal(stats.loaded_objects, 3);
  assert_int_equal(stats.chunks_hit, 5);
}

static void a_hole_ends_the_prefix_and_nothing_behind_it_is_loaded_or_leased(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  put(0, 0, 2);
  put(0, 3, 2);
  commit(rig, 5, 1); /* in L1, but behind the hole */
  flow_fetch *f = flow_ask(rig, 0, 6);
  assert_int_equal(flow_answer(f), 2);
  assert_int_equal(flow_l1(rig).leases_used, 2);
  for (uint32_t n = 2; n < 5; n++) assert_false(flow_resident(rig, n));
  assert_int_equal(flow_stores[0].loads[3 * FLOW_ROWS], 0);
  flow_end(f);
}

static void a_hole_at_the_start_loads_nothing(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  put(0, 1, 3);
  assert_int_equal(flow_hits(rig, 0, 4), 0);
  assert_int_equal(flow_stores[0].calls[NEAP_OP_LOAD], 0);
}

static void tiers_complete_each_other_and_the_lowest_that_has_an_object_loads_it(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 3);
  put(0, 0, 2);
  put(1, 1, 2); /* 1 in both */
  put(2, 0, 4);
  flow_hold(0, NEAP_OP_LOOKUP, true); /* the lowest answers last */
  flow_fetch *f = flow_ask(rig, 0, 4);
  flow_wait_held(0, 1);
  flow_turn(rig);
  flow_finish_all(0);
  assert_int_equal(flow_answer(f), 4);
  flow_end(f);
  for (uint32_t n = 0; n < 4; n++) {
    assert_int_equal(flow_stores[0].loads[n * FLOW_ROWS], n < 2);
    assert_int_equal(flow_stores[1].loads[n * FLOW_ROWS], n == 2);
    assert_int_equal(flow_stores[2].loads[n * FLOW_ROWS], n == 3);
  }
}

static void a_chunk_counts_when_all_its_rows_are_there(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  for (uint32_t row = 0; row < 3; row++) {
    flow_put(0, 0, row);
    assert_int_equal(flow_commit_sized(rig, 1, row, FLOW_BYTES), 0);
    if (row != 1) flow_put(0, 2, row);
    flow_put(0, 3, row);
  }
  flow_fetch *f = flow_ask_rows(rig, 0, 4, 3, false);
  assert_int_equal(flow_answer(f), 2);
  assert_int_equal(flow_l1(rig).leases_used, 6);
  assert_int_equal(flow_stores[0].loads[2 * FLOW_ROWS], 0);
  flow_end(f);
}

static void two_fetches_of_one_key_load_it_once(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  put(0, 0, 3);
  flow_hold(0, NEAP_OP_LOAD, true);
  flow_fetch *a = flow_ask(rig, 0, 3), *b = flow_ask(rig, 0, 2);
  flow_wait_held(0, 1);
  flow_turn(rig);
  assert_false(flow_final(a) || flow_final(b));
  flow_finish_all(0);
  assert_int_equal(flow_answer(a), 3);
  assert_int_equal(flow_answer(b), 2);
  assert_int_equal(flow_l1(rig).leases_used, 5);
  for (uint32_t n = 0; n < 3; n++) assert_int_equal(flow_stores[0].loads[n * FLOW_ROWS], 1);
  flow_end(a);
  flow_end(b);
}

static void a_writer_that_is_faster_than_the_load_is_read(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  put(0, 0, 1);
  flow_hold(0, NEAP_OP_LOAD, true);
  flow_fetch *f = flow_ask(rig, 0, 1);
  flow_wait_held(0, 1);
  commit(rig, 0, 1);
  flow_finish_all(0);
  assert_int_equal(flow_answer(f), 1);
  flow_end(f);
  assert_int_equal(flow_l1(rig).objects, 1);
}

/* --- when L2 fails -------------------------------------------------------------------------------------------- */

static void a_load_that_fails_ends_the_prefix(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  put(0, 0, 4);
  flow_force(0, NEAP_OP_LOAD, 2, NEAP_EIO);
  flow_fetch *f = flow_ask(rig, 0, 4);
  assert_int_equal(flow_answer(f), 2);
  flow_settle(rig);
  assert_int_equal(flow_l1(rig).staged, 0);
  assert_int_equal(flow_l1(rig).leases_used, 2);
  flow_end(f);
  assert_int_equal(flow_fetches(rig).failed_not_found, 1);
  flow_force(0, NEAP_OP_LOAD, 2, 0);
  assert_int_equal(flow_hits(rig, 0, 4), 4);
}

static void an_object_cut_short_is_a_miss(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  put(0, 0, 3);
  flow_stores[0].cut[1 * FLOW_ROWS] = true;
  assert_int_equal(flow_hits(rig, 0, 3), 1);
  assert_false(flow_resident(rig, 1));
}

static void wrong_bytes_are_a_miss(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  commit(rig, 0, 3);
  flow_offer(rig, 0, 3);
  flow_settle(rig);
  assert_int_equal(neap__l1_clear(rig->l1, false), 3);
  flow_stores[0].flip[1 * FLOW_ROWS] = true;
  assert_int_equal(flow_hits(rig, 0, 3), 1);
  assert_false(flow_resident(rig, 1));
}

static void a_lookup_that_fails_leaves_the_other_tiers(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 2);
  put(0, 0, 2);
  put(1, 0, 2);
  for (uint32_t n = 0; n < 2; n++) flow_force(0, NEAP_OP_LOOKUP, n, NEAP_EIO);
  assert_int_equal(flow_hits(rig, 0, 2), 2);
  assert_int_equal(flow_stores[1].loads[0], 1);
}

static void a_store_that_answers_twice_changes_nothing(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  neap__log_set_level(NEAP_ERROR + 1);
  put(0, 0, 3);
  flow_stores[0].twice = true;
  assert_int_equal(flow_hits(rig, 0, 3), 3);
  flow_settle(rig);
  assert_int_equal(flow_l1(rig).objects, 3);
}

/* --- deadlines ------------------------------------------------------------------------------------------------ */

static void at_the_deadline_what_is_loaded_is_the_answer_and_late_loads_free_their_buffer(void **state) {
  flow_rig *rig = *state;
  rig->config.prefetch_deadline_ms = DEADLINE_MS;
  flow_open(rig, 2);
  put(0, 0, 2);
  put(1, 2, 2);
  flow_hold(1, NEAP_OP_LOAD, true);
  flow_fetch *f = flow_ask(rig, 0, 4);
  assert_int_equal(flow_answer(f), 2);
  assert_int_equal(flow_fetches(rig).failed_deadline, 1);
  assert_int_equal(flow_fetches(rig).in_flight, 0);
  flow_end(f);
  flow_turn(rig);
  assert_int_equal(flow_l1(rig).staged, 2); /* the store may still write there */
  assert_int_equal(flow_l1(rig).leases_used, 2);
  flow_finish_all(1);
  flow_settle(rig);
  assert_int_equal(flow_l1(rig).staged, 0);
  assert_int_equal(flow_l1(rig).used_bytes, 2 * FLOW_BYTES);
}

static void a_lookup_that_never_comes_back_holds_no_lease_past_the_deadline(void **state) {
  flow_rig *rig = *state;
  rig->config.prefetch_deadline_ms = DEADLINE_MS;
  flow_open(rig, 1);
  commit(rig, 0, 2);
  put(0, 2, 2);
  flow_hold(0, NEAP_OP_LOOKUP, true);
  flow_fetch *f = flow_ask(rig, 0, 4);
  flow_wait_held(0, 1);
  assert_int_equal(flow_answer(f), 2);
  flow_end(f);
  flow_turn(rig);
  assert_int_equal(flow_l1(rig).leases_used, 0);
  assert_int_equal(flow_fetches(rig).failed_deadline, 1);
}

static void what_one_tier_found_before_the_other_missed_the_deadline_is_unlocked(void **state) {
  flow_rig *rig = *state;
  rig->config.prefetch_deadline_ms = DEADLINE_MS;
  flow_open(rig, 2);
  put(0, 0, 2);
  flow_hold(1, NEAP_OP_LOOKUP, true);
  flow_fetch *f = flow_ask(rig, 0, 2);
  flow_answer(f);
  flow_end(f); /* teardown looks at the locks */
}

static void a_fetch_that_joined_a_load_has_its_own_deadline(void **state) {
  flow_rig *rig = *state;
  rig->config.prefetch_deadline_ms = 400;
  rig->config.prefetch_in_flight = 1;
  flow_open(rig, 1);
  put(0, 0, 2);
  flow_hold(0, NEAP_OP_LOAD, true);
  flow_fetch *first = flow_ask(rig, 0, 1);
  flow_wait_held(0, 1);
  assert_int_equal(flow_answer(first), 0); /* too late */
  flow_hold(0, NEAP_OP_LOAD, false);
  assert_int_equal(flow_hits(rig, 0, 2), 2); /* a second load, though the first still has its buffer */
  flow_end(first);
}

static void an_abandoned_fetch_releases_everything_when_it_ends(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  commit(rig, 0, 1);
  put(0, 1, 2);
  flow_hold(0, NEAP_OP_LOAD, true);
  flow_fetch *f = flow_ask(rig, 0, 3);
  flow_wait_held(0, 1);
  flow_abandon(f);
  flow_finish_all(0);
  flow_end(f);
  flow_settle(rig);
  assert_int_equal(flow_l1(rig).leases_used, 0);
  assert_int_equal(flow_l1(rig).objects, 3);
}

/* --- bounds --------------------------------------------------------------------------------------------------- */

static void no_more_than_in_flight_max_use_l2_and_the_rest_follow(void **state) {
  flow_rig *rig = *state;
  rig->config.prefetch_in_flight = 2;
  flow_open(rig, 1);
  put(0, 0, 8);
  flow_hold(0, NEAP_OP_LOOKUP, true);
  flow_fetch *f[4];
  for (uint32_t i = 0; i < 4; i++) f[i] = flow_ask(rig, 2 * i, 2);
  flow_wait_held(0, 2);
  flow_turn(rig);
  assert_int_equal(flow_stores[0].calls[NEAP_OP_LOOKUP], 2);
  assert_int_equal(flow_fetches(rig).in_flight, 2);
  assert_int_equal(flow_fetches(rig).waiting, 2);
  flow_finish_all(0);
  for (uint32_t i = 0; i < 4; i++) {
    assert_int_equal(flow_answer(f[i]), 2);
    flow_end(f[i]);
  }
  assert_true(flow_stores[0].busy_max[NEAP_OP_LOOKUP] <= 2);
}

static void a_fetch_that_waits_past_its_deadline_ends_with_what_l1_has(void **state) {
  flow_rig *rig = *state;
  rig->config.prefetch_in_flight = 1;
  rig->config.prefetch_deadline_ms = DEADLINE_MS;
  flow_open(rig, 1);
  commit(rig, 10, 1);
  flow_hold(0, NEAP_OP_LOOKUP, true);
  flow_fetch *blocks = flow_ask(rig, 0, 1), *waits = flow_ask(rig, 10, 2);
  assert_int_equal(flow_answer(blocks), 0);
  assert_int_equal(flow_answer(waits), 1);
  flow_end(blocks);
  flow_end(waits);
}

static void when_l1_cannot_hold_all_the_longest_run_is_loaded(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 2);
  commit(rig, 100, 56);
  flow_fetch *pins = flow_ask(rig, 100, 56); /* room for 8 is left */
  put(0, 0, 1);
  put(1, 1, 9);
  put(0, 10, 6);
  flow_fetch *f = flow_ask(rig, 0, 16);
  assert_int_equal(flow_answer(f), 8);
  assert_int_equal(flow_fetches(rig).failed_l1_oom, 8);
  flow_end(f);
  flow_end(pins);
}

/* --- what stays ----------------------------------------------------------------------------------------------- */

static void above_the_watermark_what_was_loaded_leaves_with_its_reader(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 0.0001;
  rig->config.eviction_policy = "noop"; /* nothing else removes it */
  flow_open(rig, 1);
  commit(rig, 50, 1);
  put(0, 0, 2);
  flow_fetch *a = flow_ask(rig, 0, 2);
  assert_int_equal(flow_answer(a), 2);
  flow_fetch *b = flow_ask(rig, 0, 1);
  assert_int_equal(flow_answer(b), 1);
  flow_settle(rig);
  flow_end(a);
  assert_true(flow_resident(rig, 0)); /* b reads it */
  assert_false(flow_resident(rig, 1));
  flow_end(b);
  assert_false(flow_resident(rig, 0));
}

static void with_retain_it_stays(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 0.0001;
  rig->config.eviction_policy = "noop";
  rig->config.retain = true;
  flow_open(rig, 1);
  commit(rig, 50, 1);
  put(0, 0, 2);
  assert_int_equal(flow_hits(rig, 0, 2), 2);
  assert_true(flow_resident(rig, 0) && flow_resident(rig, 1));
}

static void below_the_watermark_it_stays(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  put(0, 0, 2);
  assert_int_equal(flow_hits(rig, 0, 2), 2);
  assert_true(flow_resident(rig, 0) && flow_resident(rig, 1));
  assert_int_equal(flow_hits(rig, 0, 2), 2);
  assert_int_equal(flow_stores[0].calls[NEAP_OP_LOOKUP], 1);
}

static void a_warm_prefetch_leaves_objects_without_leases_also_above_the_watermark(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 0.0001;
  rig->config.eviction_policy = "noop";
  flow_open(rig, 1);
  commit(rig, 0, 1);
  put(0, 1, 2);
  flow_fetch *f = flow_ask_rows(rig, 0, 3, 1, true);
  assert_int_equal(flow_answer(f), 3);
  flow_settle(rig);
  assert_int_equal(flow_l1(rig).leases_used, 0);
  assert_int_equal(flow_l1(rig).objects, 3);
  flow_end(f);
}

static void an_abandoned_reader_takes_a_temporary_object_from_nobody(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 0.0001;
  rig->config.eviction_policy = "noop";
  flow_open(rig, 1);
  commit(rig, 50, 1);
  put(0, 0, 1);
  flow_hold(0, NEAP_OP_LOAD, true);
  flow_fetch *a = flow_ask(rig, 0, 1), *b = flow_ask(rig, 0, 1), *c = flow_ask(rig, 0, 1);
  flow_wait_held(0, 1);
  flow_turn(rig);
  flow_abandon(a);
  flow_abandon(c);
  flow_finish_all(0);
  assert_int_equal(flow_answer(b), 1);
  flow_end(a);
  flow_end(b);
  flow_end(c);
  flow_settle(rig);
  assert_false(flow_resident(rig, 0));
}

static void loads_that_pass_the_watermark_start_an_eviction(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 0.5;
  flow_open(rig, 1);
  commit(rig, 100, 30);
  put(0, 0, 8);
  flow_fetch *f = flow_ask(rig, 0, 8);
  assert_int_equal(flow_answer(f), 8);
  flow_turn(rig);
  assert_true(neap__l1_usage(rig->l1) < 0.5);
  flow_end(f);
}

/* --- shutting down -------------------------------------------------------------------------------------------- */

static void after_drain_nothing_new_uses_l2_and_running_lookups_end(void **state) {
  flow_rig *rig = *state;
  rig->config.prefetch_in_flight = 1;
  flow_open(rig, 2);
  commit(rig, 0, 1);
  put(0, 1, 2);
  put(1, 1, 2);
  flow_hold(1, NEAP_OP_LOOKUP, true);
  flow_fetch *runs = flow_ask(rig, 0, 3), *waits = flow_ask(rig, 0, 2);
  flow_wait_held(1, 1);
  flow_turn(rig);
  neap__fetcher_drain(rig->engine->fetcher);
  assert_int_equal(flow_answer(waits), 1);
  assert_int_equal(flow_answer(runs), 1);
  flow_fetch *later = flow_ask(rig, 0, 3);
  assert_true(flow_final(later));
  assert_int_equal(flow_answer(later), 1);
  flow_finish_all(1);
  flow_settle(rig);
  assert_int_equal(flow_stores[0].calls[NEAP_OP_LOAD] + flow_stores[1].calls[NEAP_OP_LOAD], 0);
  flow_end(runs);
  flow_end(waits);
  flow_end(later);
}

static void a_load_under_way_is_finished_after_drain(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  put(0, 0, 2);
  flow_hold(0, NEAP_OP_LOAD, true);
  flow_fetch *f = flow_ask(rig, 0, 2);
  flow_wait_held(0, 1);
  neap__fetcher_drain(rig->engine->fetcher);
  assert_false(flow_final(f));
  flow_finish_all(0);
  assert_int_equal(flow_answer(f), 2);
  flow_end(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, flow_setup, flow_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(what_l1_has_is_final_inside_start_and_leased_exactly),
      TEST(without_tiers_the_prefix_in_l1_is_the_answer_at_once),
      TEST(a_fetch_of_no_chunks_is_final_with_none),
      TEST(a_matrix_beyond_the_bound_is_refused),
      TEST(a_taken_lease_belongs_to_the_caller),
      TEST(l2_fills_what_l1_lacks),
      TEST(a_hole_ends_the_prefix_and_nothing_behind_it_is_loaded_or_leased),
      TEST(a_hole_at_the_start_loads_nothing),
      TEST(tiers_complete_each_other_and_the_lowest_that_has_an_object_loads_it),
      TEST(a_chunk_counts_when_all_its_rows_are_there),
      TEST(two_fetches_of_one_key_load_it_once),
      TEST(a_writer_that_is_faster_than_the_load_is_read),
      TEST(a_load_that_fails_ends_the_prefix),
      TEST(an_object_cut_short_is_a_miss),
      TEST(wrong_bytes_are_a_miss),
      TEST(a_lookup_that_fails_leaves_the_other_tiers),
      TEST(a_store_that_answers_twice_changes_nothing),
      TEST(at_the_deadline_what_is_loaded_is_the_answer_and_late_loads_free_their_buffer),
      TEST(a_lookup_that_never_comes_back_holds_no_lease_past_the_deadline),
      TEST(what_one_tier_found_before_the_other_missed_the_deadline_is_unlocked),
      TEST(a_fetch_that_joined_a_load_has_its_own_deadline),
      TEST(an_abandoned_fetch_releases_everything_when_it_ends),
      TEST(no_more_than_in_flight_max_use_l2_and_the_rest_follow),
      TEST(a_fetch_that_waits_past_its_deadline_ends_with_what_l1_has),
      TEST(when_l1_cannot_hold_all_the_longest_run_is_loaded),
      TEST(above_the_watermark_what_was_loaded_leaves_with_its_reader),
      TEST(with_retain_it_stays),
      TEST(below_the_watermark_it_stays),
      TEST(a_warm_prefetch_leaves_objects_without_leases_also_above_the_watermark),
      TEST(an_abandoned_reader_takes_a_temporary_object_from_nobody),
      TEST(loads_that_pass_the_watermark_start_an_eviction),
      TEST(after_drain_nothing_new_uses_l2_and_running_lookups_end),
      TEST(a_load_under_way_is_finished_after_drain),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
