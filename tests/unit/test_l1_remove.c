/* SPDX-License-Identifier: MIT
 *
 * The ways out of L1: evict, evict a window, remove, clear; what leases and reservations have to do with them. */
#include "unit/l1_fixture.h"

static void eviction_never_touches_what_is_leased_staged_or_gone(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  neap__view view;
  neap__lease lease = fixture_stage(l1, 1, UNIT, 0, &fixture_local);
  assert_int_equal(neap__l1_view(l1, lease, &view), 0);
  assert_int_equal(neap__l1_evict(l1, view.slot), NEAP_ENOENT);
  assert_int_equal(neap__l1_commit(l1, lease, NULL, &request_7, 1, &lease), 0);
  assert_int_equal(neap__l1_evict(l1, view.slot), NEAP_EBUSY);
  assert_int_equal(neap__l1_release(l1, lease, 1), 0);
  assert_int_equal(neap__l1_evict(l1, view.slot), UNIT);
  assert_int_equal(neap__l1_evict(l1, view.slot), NEAP_ENOENT);
  assert_int_equal(neap__l1_evict(l1, 8), NEAP_ENOENT);
  assert_int_equal(neap__l1_evict(l1, UINT32_MAX), NEAP_ENOENT);
  finish_units(l1);
}

static void a_removed_object_keeps_its_bytes_for_those_who_read_them(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(2, 8);
  neap__key key = fixture_key(1);
  neap__view view;
  assert_int_equal(neap__l1_remove(l1, &key, true), NEAP_ENOENT);
  fixture_put(l1, 1, 2 * UNIT, 0);
  neap__lease lease = fixture_get(l1, 1, &worker_1, 1);
  assert_int_equal(neap__l1_remove(l1, &key, false), NEAP_EBUSY);
  assert_true(fixture_has(l1, 1));
  assert_int_equal(neap__l1_remove(l1, &key, true), 0);
  assert_false(fixture_has(l1, 1));
  assert_int_equal(neap__l1_remove(l1, &key, true), NEAP_ENOENT);
  assert_int_equal(neap__l1_objects(l1), 0);
  assert_int_equal(fixture_stats(l1).used_bytes, 2 * UNIT);
  assert_int_equal(neap__l1_view(l1, lease, &view), 0);
  assert_true(fixture_holds(&view, 0));
  fixture_check(l1);
  assert_int_equal(neap__l1_release(l1, lease, 1), 0);
  assert_int_equal(fixture_stats(l1).used_bytes, 0);
  fixture_put(l1, 1, UNIT, 0);
  assert_int_equal(neap__l1_remove(l1, &key, false), 0);
  finish_units(l1);
}

static void clear_without_force_spares_leased_and_staged_objects(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(16, 16);
  for (uint32_t n = 1; n <= 5; n++) fixture_put(l1, n, UNIT, 0);
  neap__lease read = fixture_get(l1, 3, &worker_1, 1), write = fixture_stage(l1, 6, UNIT, 0, &worker_1);
  assert_int_equal(neap__l1_clear(l1, false), 4);
  assert_true(fixture_has(l1, 3));
  assert_int_equal(neap__l1_objects(l1), 1);
  assert_int_equal(neap__l1_commit(l1, write, NULL, NULL, 0, NULL), 0);
  assert_true(fixture_has(l1, 6));
  assert_int_equal(neap__l1_release(l1, read, 1), 0);
  finish_units(l1);
}

static void clear_with_force_leaves_readers_their_bytes_and_writers_a_stale_lease(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(16, 16);
  for (uint32_t n = 1; n <= 5; n++) fixture_put(l1, n, UNIT, 0);
  neap__lease read = fixture_get(l1, 3, &worker_1, 1), write = fixture_stage(l1, 6, UNIT, 0, &worker_1);
  neap__lease gives_up = fixture_stage(l1, 7, UNIT, 0, &worker_1), pin = 1;
  assert_int_equal(neap__l1_clear(l1, true), 5);
  assert_int_equal(neap__l1_objects(l1), 0);
  assert_int_equal(fixture_stats(l1).staged, 0);
  assert_int_equal(fixture_stats(l1).staged_bytes, 0);
  assert_int_equal(fixture_stats(l1).used_bytes, 3 * UNIT);
  fixture_check(l1);
  neap__view view;
  assert_int_equal(neap__l1_view(l1, read, &view), 0);
  assert_true(fixture_holds(&view, 0));
  fixture_fill_lease(l1, write, 1); /* a writer at work is not told; its bytes are still its own */
  fixture_put(l1, 6, UNIT, 0);
  bool won = true;
  assert_int_equal(neap__l1_commit(l1, write, &won, &worker_1, 1, &pin), NEAP_ESTALE);
  assert_false(won);
  assert_true(pin == NEAP_NO_LEASE);
  assert_int_equal(neap__l1_abort(l1, gives_up), NEAP_ESTALE);
  assert_int_equal(fixture_stats(l1).used_bytes, 2 * UNIT);
  assert_int_equal(neap__l1_release(l1, read, 1), 0);
  neap__lease staged = fixture_get(l1, 6, &worker_1, 1);
  assert_int_equal(neap__l1_view(l1, staged, &view), 0);
  assert_true(fixture_holds(&view, 0));
  assert_int_equal(neap__l1_release(l1, staged, 1), 0);
  finish_units(l1);
}

static void a_cleared_writer_that_is_dropped_gives_its_bytes_back(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(4, 4);
  fixture_stage(l1, 1, UNIT, 0, &worker_1);
  assert_int_equal(neap__l1_clear(l1, true), 0);
  assert_int_equal(neap__l1_drop_owner(l1, NEAP_OWNER_TRANSFER, 1), 1);
  assert_int_equal(fixture_stats(l1).used_bytes, 0);
  finish_units(l1);
}

static void a_window_makes_room_for_an_object_among_scattered_ones(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(20, 20);
  neap__lease pins[4];
  for (uint32_t n = 1; n <= 20; n++) fixture_put(l1, n, UNIT, 0); /* first fit: 1 .. 20 in order */
  for (uint32_t n = 2; n <= 20; n += 2) assert_int_equal(neap__l1_evict(l1, fixture_slot(l1, n)), UNIT);
  pins[0] = fixture_get(l1, 5, &worker_1, 1);
  pins[1] = fixture_get(l1, 13, &worker_1, 1);
  neap__lease lease;
  neap__key key = fixture_key(50);
  uint64_t bytes = 5 * UNIT - 7;
  int result;
  assert_int_equal(neap__l1_reserve(l1, 1, &key, &bytes, 0, &worker_1, &lease, &result), NEAP_ENOSPC);
  assert_int_equal(neap__l1_evict_window(l1, bytes), 0);
  assert_int_equal(neap__l1_objects(l1), 8); /* two neighbours of three gaps */
  fixture_put(l1, 50, bytes, 0);
  assert_int_equal(neap__l1_evict_window(l1, 8 * UNIT), NEAP_ENOSPC); /* 5 and 13 stand in the way of any */
  assert_int_equal(neap__l1_release(l1, pins[0], 1) | neap__l1_release(l1, pins[1], 1), 0);
  assert_int_equal(neap__l1_evict_window(l1, 20 * UNIT), 0);
  assert_int_equal(neap__l1_objects(l1), 0);
  assert_int_equal(neap__l1_evict_window(l1, 20 * UNIT + 1), NEAP_ENOSPC);
  assert_int_equal(neap__l1_evict_window(l1, 0), NEAP_ENOSPC);
  assert_int_equal(neap__l1_evict_window(l1, UINT64_MAX), NEAP_ENOSPC);
  finish_units(l1);
}

static void a_window_that_is_free_already_costs_nobody_a_place(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  assert_int_equal(neap__l1_evict_window(l1, 8 * UNIT), 0);
  fixture_put(l1, 1, UNIT, 0);
  assert_int_equal(neap__l1_evict_window(l1, 7 * UNIT), 0);
  assert_true(fixture_has(l1, 1));
  finish_units(l1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(eviction_never_touches_what_is_leased_staged_or_gone),
      cmocka_unit_test(a_removed_object_keeps_its_bytes_for_those_who_read_them),
      cmocka_unit_test(clear_without_force_spares_leased_and_staged_objects),
      cmocka_unit_test(clear_with_force_leaves_readers_their_bytes_and_writers_a_stale_lease),
      cmocka_unit_test(a_cleared_writer_that_is_dropped_gives_its_bytes_back),
      cmocka_unit_test(a_window_makes_room_for_an_object_among_scattered_ones),
      cmocka_unit_test(a_window_that_is_free_already_costs_nobody_a_place),
  };
  return cmocka_run_group_tests_name("l1_remove", tests, NULL, NULL);
}
