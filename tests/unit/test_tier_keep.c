/* SPDX-License-Identifier: MIT
 *
 * What a tier keeps within its capacity, what it evicts and what it knows after a restart. */
#include "support/tier_probe.h"

#include <sched.h>
#include <string.h>

#include "support/test_host.h"

/* --- capacity ------------------------------------------------------------------------------------------------- */

static void at_the_watermark_the_least_recently_used_leave_in_one_operation(void **state) {
  probe_engine *e = *state;
  probe_open_bounded(e, "LRU");
  for (uint32_t n = 0; n < 7; n++) assert_int_equal(probe_store(e, n), 0);
  assert_int_equal(probe_load(e, 0), 0);
  probe_drain(e);
  assert_int_equal(probe_script.removes, 0);
  assert_int_equal(probe_store(e, 7), 0); /* 8 of 10 */
  probe_drain(e);
  assert_int_equal(probe_script.removes, 1);
  assert_int_equal(probe_script.removed_count, 1);
  assert_int_equal(probe_script.removed[0], 1);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 8, 3), 0); /* 7 + 3: down to 7 again */
  probe_drain(e);
  assert_int_equal(probe_script.removes, 2);
  const uint32_t order[4] = {1, 2, 3, 4};
  assert_int_equal(probe_script.removed_count, 4);
  assert_memory_equal(probe_script.removed, order, sizeof(order));
  assert_int_equal(probe_stats(e).used_bytes, 7 * PROBE_BYTES);
  assert_int_equal(probe_stats(e).evicted_objects, 4);
}

static void capacity_holds_without_an_eviction_block(void **state) {
  probe_engine *e = *state;
  e->config.trigger_watermark = e->config.eviction_ratio = 0;
  probe_open_bounded(e, "");
  for (uint32_t n = 0; n < 50; n++) {
    assert_int_equal(probe_store(e, n), 0);
    assert_true(probe_stats(e).used_bytes <= 10 * PROBE_BYTES);
  }
  probe_drain(e);
  assert_true(probe_stats(e).used_bytes < 8 * PROBE_BYTES);
  assert_int_equal(probe_stats(e).evicted_objects, 43);
}

static void locked_objects_stay_and_without_victims_a_store_is_refused(void **state) {
  probe_engine *e = *state;
  e->config.trigger_watermark = 2.0; /* out of the way */
  probe_open_bounded(e, "LRU");
  for (uint32_t n = 0; n < 9; n++) {
    assert_int_equal(probe_store(e, n), 0);
    if (n != 4) probe_lock(e, n, true);
  }
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 20, 2), 0);
  probe_drain(e);
  assert_int_equal(probe_script.removed[0], 4);
  probe_lock(e, 20, true);
  probe_lock(e, 21, true);
  assert_int_equal(probe_store(e, 30), NEAP_ENOSPC);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 40, 11), NEAP_ENOSPC); /* larger than the capacity */
  assert_int_equal(probe_stats(e).store_failures[-NEAP_ENOSPC], 12);
  probe_lock(e, 7, false);
  assert_int_equal(probe_store(e, 30), 0);
  probe_drain(e);
  assert_int_equal(probe_script.removed[1], 7);
}

static void a_store_waits_for_the_room_that_victims_make(void **state) {
  probe_engine *e = *state;
  e->config.trigger_watermark = 1.0;
  probe_open_bounded(e, "LRU");
  for (uint32_t n = 0; n < 9; n++) assert_int_equal(probe_store(e, n), 0);
  probe_answers(NEAP_OP_REMOVE, LATER);
  probe_request *r = probe_post(e, NEAP_OP_STORE, 20, 3, 0);
  probe_wait_held(1);
  probe_drain(e);
  assert_int_equal(r->dones, 0);
  assert_null(probe_script.data[20]);
  probe_answers(NEAP_OP_REMOVE, AT_ONCE);
  probe_finish_held(0);
  probe_wait(&r->released);
  assert_int_equal(r->results[2], 0);
  probe_request_free(r);
  probe_drain(e);
  assert_true(probe_stats(e).used_bytes < 10 * PROBE_BYTES);
}

static void removes_that_fail_refuse_the_store_instead_of_trying_for_ever(void **state) {
  probe_engine *e = *state;
  e->config.trigger_watermark = 1.0;
  probe_open_bounded(e, "LRU");
  for (uint32_t n = 0; n < 9; n++) assert_int_equal(probe_store(e, n), 0);
  probe_force(NEAP_EIO);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 20, 2), NEAP_ENOSPC);
  assert_int_equal(probe_script.removes, 1);
  assert_int_equal(probe_stats(e).used_bytes, 9 * PROBE_BYTES);
  probe_force(1);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 20, 2), 0);
}

static void what_the_store_let_go_of_by_itself_is_not_counted(void **state) {
  probe_engine *e = *state;
  probe_open_bounded(e, "LRU");
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 0, 4), 0);
  neap__key key = probe_key(e, 2);
  neap_object_key gone = neap__names_object_key(e->names, &key);
  probe_script.host->gone(probe_script.host->engine, &gone, 1);
  probe_script.host->gone(probe_script.host->engine, &gone, 1);
  assert_int_equal(probe_stats(e).used_bytes, 3 * PROBE_BYTES);
  assert_int_equal(probe_store(e, 2), 0); /* it may come again */
  assert_int_equal(probe_run(e, NEAP_OP_LOAD, 2, 1), 0);
}

static void noop_removes_nothing_and_refuses_at_the_capacity(void **state) {
  probe_engine *e = *state;
  probe_open_bounded(e, "noop");
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 0, 10), 0);
  assert_int_equal(probe_store(e, 10), NEAP_ENOSPC);
  assert_int_equal(probe_script.removes, 0);
}

static void isolated_lru_spares_the_tenant_that_uses_little(void **state) {
  probe_engine *e = *state;
  probe_open_bounded(e, "IsolatedLRU");
  assert_int_equal(probe_store(e, 1), 0); /* odd: "tenant"; oldest of all */
  for (uint32_t n = 0; n < 14; n += 2) assert_int_equal(probe_store(e, n), 0);
  probe_drain(e);
  assert_int_equal(probe_script.removed_count, 1);
  assert_int_equal(probe_script.removed[0], 0);
  assert_int_equal(neap__tier_tenant_bytes(e->tier, e->tenant), PROBE_BYTES);
}

static void arc_keeps_what_was_read_from_a_scan_that_lru_would_lose_it_to(void **state) {
  probe_engine *e = *state;
  probe_open_bounded(e, "ARC");
  for (uint32_t n = 0; n < 4; n++) {
    assert_int_equal(probe_store(e, n), 0);
    assert_int_equal(probe_load(e, n), 0);
  }
  for (uint32_t n = 100; n < 140; n++) assert_int_equal(probe_store(e, n), 0);
  probe_drain(e);
  for (uint32_t n = 0; n < 4; n++) assert_int_equal(probe_load(e, n), 0);
  assert_int_equal(probe_load(e, 139), 0);
  assert_int_equal(probe_load(e, 120), NEAP_ENOENT);
  uint64_t used = neap__tier_tenant_bytes(e->tier, 0) + neap__tier_tenant_bytes(e->tier, e->tenant);
  assert_int_equal(used, probe_stats(e).used_bytes);
  assert_true(used < 8 * PROBE_BYTES);
}

static void a_full_store_makes_room_and_is_asked_once_more(void **state) {
  probe_engine *e = *state;
  probe_open_tier(e);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 0, 6), 0);
  probe_answers(NEAP_OP_REMOVE, LATER);
  probe_force(NEAP_ENOSPC);
  probe_request *r = probe_post(e, NEAP_OP_STORE, 20, 1, 0);
  probe_wait_held(1);
  assert_int_equal(r->dones, 0);
  probe_force(1);
  probe_finish_held(0);
  probe_wait(&r->released);
  assert_int_equal(r->results[0], 0);
  probe_request_free(r);
  assert_int_equal(probe_script.removes, 1);
  assert_int_equal(probe_script.removed_count, 2);
  assert_int_equal(probe_stats(e).store_failures[-NEAP_ENOSPC], 1);
  assert_int_equal(probe_stats(e).no_space_pauses, 0);
}

static void room_is_made_for_all_who_are_short_of_it(void **state) {
  probe_engine *e = *state;
  probe_open_tier(e);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 0, 6), 0);
  probe_answers(NEAP_OP_STORE, LATER);
  probe_answers(NEAP_OP_REMOVE, LATER);
  probe_force(NEAP_ENOSPC);
  probe_request *first = probe_post(e, NEAP_OP_STORE, 20, 1, 0);
  probe_wait_held(1);
  probe_request *second = probe_post(e, NEAP_OP_STORE, 30, 3, 0);
  probe_wait_held(2);
  probe_finish_held(0);
  probe_wait_held(3); /* victims for the first one */
  probe_finish_held(1);
  while (probe_stats(e).store_failures[-NEAP_ENOSPC] < 4) sched_yield();
  probe_force(1);
  probe_finish_held(2);
  probe_wait_held(4); /* victims for the second one, before anybody tries again */
  assert_int_equal(probe_script.removes, 2);
  assert_int_equal(first->dones + second->dones, 0);
  probe_answers(NEAP_OP_STORE, AT_ONCE);
  probe_finish_held(3);
  probe_wait(&first->released);
  probe_wait(&second->released);
  assert_int_equal(first->results[0], 0);
  for (uint32_t i = 0; i < 3; i++) assert_int_equal(second->results[i], 0);
  probe_request_free(first);
  probe_request_free(second);
  assert_int_equal(probe_stats(e).no_space_pauses, 0);
}

static void who_waits_for_room_gets_it_before_who_comes_later(void **state) {
  probe_engine *e = *state;
  probe_open_tier(e);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 0, 6), 0);
  probe_answers(NEAP_OP_REMOVE, LATER);
  probe_force(NEAP_ENOSPC);
  probe_request *first = probe_post(e, NEAP_OP_STORE, 20, 1, 0);
  probe_wait_held(1);
  probe_answers(NEAP_OP_STORE, LATER);
  probe_force(1);
  probe_request *later = probe_post(e, NEAP_OP_STORE, 30, 1, 0);
  probe_lookup(e, 0); /* by now the later one is queued */
  probe_finish_held(0);
  probe_wait_held(2);
  probe_drain(e);
  assert_int_equal(probe_ops(NEAP_OP_STORE), 3); /* six at once, the first one twice; not yet the later one */
  assert_int_equal(probe_script.held[1]->objects[0].key.hash[0], 20);
  probe_finish_held(1);
  probe_wait_held(3);
  probe_finish_held(2);
  probe_wait(&first->released);
  probe_wait(&later->released);
  assert_int_equal(first->results[0] | later->results[0], 0);
  probe_request_free(first);
  probe_request_free(later);
}

/* --- recovery ------------------------------------------------------------------------------------------------- */

static void put_before_start(uint32_t n, int64_t used_s) {
  probe_script.data[n] = calloc(1, PROBE_BYTES);
  test_fill(probe_script.data[n], PROBE_BYTES, n);
  probe_script.used_s[n] = used_s;
}

static void after_a_restart_usage_is_right_and_the_longest_unused_leave_first(void **state) {
  probe_engine *e = *state;
  probe_table.list = probe_call;
  const uint32_t by_age[6] = {5, 2, 0, 4, 1, 3};
  for (uint32_t i = 0; i < 6; i++) put_before_start(by_age[i], 1000 + i);
  probe_script.answers[NEAP_OP_LIST] = LATER;
  probe_open_bounded(e, "LRU");
  probe_wait_held(1);
  assert_int_equal(probe_store(e, 10), 0); /* the tier works meanwhile */
  probe_finish_held(0);
  probe_drain(e);
  assert_int_equal(probe_stats(e).used_bytes, 7 * PROBE_BYTES);
  assert_int_equal(neap__tier_tenant_bytes(e->tier, e->tenant), 3 * PROBE_BYTES);
  assert_int_equal(probe_load(e, 5), 0);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 11, 3), 0);
  probe_drain(e);
  const uint32_t order[3] = {2, 0, 4}; /* never asked for in this process */
  assert_int_equal(probe_script.removed_count, 3);
  assert_memory_equal(probe_script.removed, order, sizeof(order));
}

static void more_than_the_capacity_found_at_start_is_evicted(void **state) {
  probe_engine *e = *state;
  probe_table.list = probe_call;
  for (uint32_t n = 0; n < 100; n++) put_before_start(n, 1000 + n);
  probe_open_bounded(e, "LRU");
  probe_drain(e);
  assert_int_equal(probe_stats(e).used_bytes, 7 * PROBE_BYTES);
  assert_null(probe_script.data[92]);
  assert_non_null(probe_script.data[93]);
}

#define RAW(name) cmocka_unit_test_setup_teardown(name, probe_setup, probe_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      RAW(at_the_watermark_the_least_recently_used_leave_in_one_operation),
      RAW(capacity_holds_without_an_eviction_block),
      RAW(locked_objects_stay_and_without_victims_a_store_is_refused),
      RAW(a_store_waits_for_the_room_that_victims_make),
      RAW(removes_that_fail_refuse_the_store_instead_of_trying_for_ever),
      RAW(what_the_store_let_go_of_by_itself_is_not_counted),
      RAW(noop_removes_nothing_and_refuses_at_the_capacity),
      RAW(isolated_lru_spares_the_tenant_that_uses_little),
      RAW(arc_keeps_what_was_read_from_a_scan_that_lru_would_lose_it_to),
      RAW(a_full_store_makes_room_and_is_asked_once_more),
      RAW(room_is_made_for_all_who_are_short_of_it),
      RAW(who_waits_for_room_gets_it_before_who_comes_later),
      RAW(after_a_restart_usage_is_right_and_the_longest_unused_leave_first),
      RAW(more_than_the_capacity_found_at_start_is_evicted),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
