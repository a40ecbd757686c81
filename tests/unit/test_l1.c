/* SPDX-License-Identifier: MIT
 *
 * What l1.h promises, sentence by sentence, on one thread and a private pool. */
#include <sys/mman.h>

#include "unit/l1_fixture.h"

/* --- writing -------------------------------------------------------------------------------------------------- */

static void staged_objects_are_invisible_until_their_commit(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  neap__lease lease = fixture_stage(l1, 1, UNIT, 0, &worker_1);
  assert_false(fixture_has(l1, 1));
  assert_true(fixture_get(l1, 1, &fixture_local, 1) == NEAP_NO_LEASE);
  assert_int_equal(neap__l1_objects(l1), 0);
  assert_int_equal(fixture_stats(l1).staged, 1);
  assert_int_equal(neap__l1_remove(l1, &(neap__key){.rank = 1}, true), NEAP_ENOENT);
  fixture_check(l1);
  assert_int_equal(neap__l1_commit(l1, lease, NULL, NULL, 0, NULL), 0);
  assert_true(fixture_has(l1, 1));
  assert_int_equal(neap__l1_objects(l1), 1);
  assert_int_equal(fixture_stats(l1).staged, 0);
  finish_units(l1);
}

static void the_first_commit_wins_and_the_later_one_frees_its_buffer(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  bool won;
  neap__lease a = fixture_stage(l1, 1, UNIT, 0, &worker_1), b = fixture_stage(l1, 1, UNIT, 0, &worker_1_again);
  fixture_fill_lease(l1, a, 1);
  fixture_fill_lease(l1, b, 2);
  assert_int_equal(fixture_stats(l1).used_bytes, 2 * UNIT);
  assert_int_equal(neap__l1_commit(l1, b, &won, NULL, 0, NULL), 0);
  assert_true(won);
  fixture_check(l1);
  neap__lease pin = NEAP_NO_LEASE;
  assert_int_equal(neap__l1_commit(l1, a, &won, &request_7, 1, &pin), 0);
  assert_false(won);
  assert_int_equal(fixture_stats(l1).used_bytes, UNIT);
  assert_int_equal(neap__l1_objects(l1), 1);
  neap__view view;
  assert_int_equal(neap__l1_view(l1, pin, &view), 0);
  assert_true(fixture_holds(&view, 2));
  assert_int_equal(neap__l1_release(l1, pin, 1), 0);
  finish_units(l1);
}

static void a_reservation_of_a_resident_key_says_so_and_takes_nothing(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  fixture_put(l1, 2, UNIT, 0);
  const neap__key keys[] = {fixture_key(1), fixture_key(2), fixture_key(3)};
  const uint64_t bytes[] = {1, UNIT, UNIT + 1};
  neap__lease leases[3];
  int results[3];
  assert_int_equal(neap__l1_reserve(l1, 3, keys, bytes, 0, &fixture_local, leases, results), 0);
  assert_int_equal(results[0], 0);
  assert_int_equal(results[1], NEAP_EEXIST);
  assert_int_equal(results[2], 0);
  assert_true(leases[1] == NEAP_NO_LEASE);
  assert_int_equal(fixture_stats(l1).used_bytes, 4 * UNIT);
  assert_int_equal(fixture_stats(l1).staged_bytes, 3 * UNIT);
  assert_int_equal(neap__l1_abort(l1, leases[0]), 0);
  assert_int_equal(neap__l1_abort(l1, leases[2]), 0);
  finish_units(l1);
}

static void an_exclusive_reservation_is_refused_while_anybody_writes_the_key(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  neap__lease first = fixture_stage(l1, 1, UNIT, 0, &worker_1);
  const neap__key keys[] = {fixture_key(1), fixture_key(2), fixture_key(2)};
  const uint64_t bytes[] = {UNIT, UNIT, UNIT};
  neap__lease leases[3];
  int results[3];
  assert_int_equal(neap__l1_reserve(l1, 3, keys, bytes, NEAP_RESERVE_EXCLUSIVE, &fixture_local, leases, results), 0);
  assert_int_equal(results[0], NEAP_EBUSY);
  assert_int_equal(results[1], 0);
  assert_int_equal(results[2], NEAP_EBUSY);
  assert_true(leases[0] == NEAP_NO_LEASE && leases[2] == NEAP_NO_LEASE);
  assert_int_equal(fixture_stats(l1).staged, 2);
  assert_int_equal(neap__l1_abort(l1, first), 0);
  assert_int_equal(neap__l1_abort(l1, leases[1]), 0);
  finish_units(l1);
}

static void a_key_twice_in_one_batch_gets_two_buffers(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  const neap__key keys[] = {fixture_key(1), fixture_key(1)};
  const uint64_t bytes[] = {UNIT, UNIT};
  neap__lease leases[2];
  int results[2];
  bool won;
  assert_int_equal(neap__l1_reserve(l1, 2, keys, bytes, 0, &worker_1, leases, results), 0);
  assert_int_equal(results[0] | results[1], 0);
  assert_true(leases[0] != leases[1]);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(neap__l1_commit(l1, leases[i], &won, NULL, 0, NULL), 0);
    assert_int_equal(won, i == 0);
  }
  assert_int_equal(fixture_stats(l1).used_bytes, UNIT);
  finish_units(l1);
}

static void a_batch_that_does_not_fit_stages_nothing(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  fixture_put(l1, 9, 5 * UNIT, 0);
  const neap__key keys[] = {fixture_key(1), fixture_key(2)};
  const uint64_t bytes[] = {2 * UNIT, 2 * UNIT};
  neap__lease leases[2] = {1, 1};
  int results[2];
  assert_int_equal(neap__l1_reserve(l1, 2, keys, bytes, 0, &worker_1, leases, results), NEAP_ENOSPC);
  assert_true(leases[0] == NEAP_NO_LEASE && leases[1] == NEAP_NO_LEASE);
  assert_int_equal(fixture_stats(l1).used_bytes, 5 * UNIT);
  assert_int_equal(fixture_stats(l1).staged, 0);
  assert_int_equal(fixture_stats(l1).alloc_failures, 1);
  assert_true(neap__l1_staged(l1, &keys[0], &worker_1) == NEAP_NO_LEASE);
  finish_units(l1);
}

static void a_batch_that_finds_no_slot_or_lease_stages_nothing(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(64, 4);
  neap__key keys[5];
  uint64_t bytes[5];
  neap__lease leases[5];
  int results[5];
  for (uint32_t i = 0; i < 5; i++) keys[i] = fixture_key(i), bytes[i] = 1;
  assert_int_equal(neap__l1_reserve(l1, 5, keys, bytes, 0, &worker_1, leases, results), NEAP_ELIMIT);
  assert_int_equal(fixture_stats(l1).staged, 0);
  assert_int_equal(fixture_stats(l1).used_bytes, 0);
  fixture_check(l1);
  fixture_put(l1, 0, UNIT, 0);
  neap__lease held[4096];
  uint32_t count = 0;
  while ((held[count] = NEAP_NO_LEASE, neap__l1_acquire(l1, 1, &keys[0], &request_7, 1, false, &held[count]) == 1))
    assert_in_range(++count, 1, 4095);
  assert_true(count > 0);
  assert_int_equal(fixture_stats(l1).leases_used, count);
  assert_int_equal(neap__l1_remove(l1, &keys[0], true), 0); /* its leases go on, in the key's shard */
  for (uint32_t i = 0; i < 3; i++) keys[i] = fixture_key(100 + i);
  keys[1] = fixture_key(0);
  assert_int_equal(neap__l1_reserve(l1, 3, keys, bytes, 0, &worker_1, leases, results), NEAP_ELIMIT);
  for (uint32_t i = 0; i < 3; i++) assert_true(leases[i] == NEAP_NO_LEASE);
  assert_int_equal(fixture_stats(l1).staged, 0);
  assert_int_equal(fixture_stats(l1).used_bytes, UNIT);
  fixture_check(l1);
  while (count-- > 0) assert_int_equal(neap__l1_release(l1, held[count], 1), 0);
  assert_int_equal(neap__l1_reserve(l1, 3, keys, bytes, 0, &worker_1, leases, results), 0);
  assert_int_equal(neap__l1_drop_owner(l1, NEAP_OWNER_TRANSFER, 1), 3);
  finish_units(l1);
}

static void a_commit_without_a_lease_left_for_the_pin_is_published_all_the_same(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(64, 4);
  neap__key key = fixture_key(0);
  neap__lease held[4096], pin, ours;
  fixture_put(l1, 0, UNIT, 0);
  assert_int_equal(neap__l1_acquire(l1, 1, &key, &request_7, 1, false, &held[0]), 1);
  assert_int_equal(neap__l1_remove(l1, &key, true), 0);
  ours = fixture_stage(l1, 0, UNIT, 0, &fixture_local);
  fixture_put(l1, 0, UNIT, 0);
  uint32_t count = 1;
  while (neap__l1_acquire(l1, 1, &key, &request_7, 1, false, &held[count]) == 1) assert_in_range(++count, 1, 4095);
  bool won = true;
  int rc = neap__l1_commit(l1, ours, &won, &request_7, 1, &pin);
  assert_false(won);
  /* The writer's own lease ended just before, so there is one for its pin. */
  assert_int_equal(rc, 0);
  assert_true(pin != NEAP_NO_LEASE);
  assert_int_equal(neap__l1_release(l1, pin, 1), 0);
  while (count-- > 0) assert_int_equal(neap__l1_release(l1, held[count], 1), 0);
  finish_units(l1);
}

static void objects_of_no_bytes_or_more_than_the_pool_are_invalid(void **state) {
  (void)state;
  neap__l1_config config = fixture_config(8, 8);
  config.pool_bytes += 100; /* the last unit is not whole */
  neap__l1 *l1 = fixture_open(&config, NULL);
  const uint64_t absurd[] = {0,          8 * UNIT + 1,      8 * UNIT + 100, 8 * UNIT + 101,
                             UINT64_MAX, UINT64_MAX - UNIT, 1ull << 63};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(absurd); i++) {
    const neap__key keys[] = {fixture_key(1), fixture_key(2)};
    const uint64_t bytes[] = {UNIT, absurd[i]};
    neap__lease leases[2] = {1, 1};
    int results[2];
    assert_int_equal(neap__l1_reserve(l1, 2, keys, bytes, 0, &worker_1, leases, results), NEAP_EINVAL);
    assert_true(leases[0] == NEAP_NO_LEASE && leases[1] == NEAP_NO_LEASE);
    assert_int_equal(fixture_stats(l1).used_bytes, 0);
  }
  fixture_put(l1, 1, 8 * UNIT, 0);
  finish_units(l1);
}

static void a_batch_of_nothing_is_nothing(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  assert_int_equal(neap__l1_reserve(l1, 0, NULL, NULL, 0, &worker_1, NULL, NULL), 0);
  assert_int_equal(neap__l1_acquire(l1, 0, NULL, &worker_1, 1, true, NULL), 0);
  neap__l1_contains(l1, 0, NULL, NULL);
  neap__l1_touch(l1, 0, NULL, 0, 0);
  finish_units(l1);
}

static void a_staged_lease_is_found_by_key_and_whole_owner(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  neap__key key = fixture_key(1);
  neap__lease a = fixture_stage(l1, 1, UNIT, 0, &worker_1), b = fixture_stage(l1, 1, UNIT, 0, &worker_1_again);
  assert_true(neap__l1_staged(l1, &key, &worker_1) == a);
  assert_true(neap__l1_staged(l1, &key, &worker_1_again) == b);
  neap__owner other = worker_1;
  other.kind = NEAP_OWNER_REQUEST;
  assert_true(neap__l1_staged(l1, &key, &other) == NEAP_NO_LEASE);
  other = worker_1, other.id = 2;
  assert_true(neap__l1_staged(l1, &key, &other) == NEAP_NO_LEASE);
  assert_int_equal(neap__l1_commit(l1, a, NULL, &worker_1, 1, &a), 0);
  assert_true(neap__l1_staged(l1, &key, &worker_1) == NEAP_NO_LEASE);
  assert_int_equal(neap__l1_abort(l1, b), 0);
  assert_int_equal(neap__l1_release(l1, a, 1), 0);
  finish_units(l1);
}

static void accounts_are_exact_for_each_tenant_and_in_total(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(64, 64);
  uint64_t tenants[TENANTS] = {0}, total = 0;
  for (uint32_t n = 1; n <= 10; n++) {
    uint64_t bytes = n * 1000, rounded = (bytes + UNIT - 1) / UNIT * UNIT;
    fixture_put(l1, n, bytes, 0);
    tenants[n % TENANTS] += rounded;
    total += rounded;
  }
  for (uint32_t i = 0; i < TENANTS; i++) assert_int_equal(neap__l1_tenant_bytes(l1, i), tenants[i]);
  assert_int_equal(neap__l1_tenant_bytes(l1, TENANTS), 0);
  assert_int_equal(neap__l1_tenant_bytes(l1, UINT32_MAX), 0);
  neap__l1_stats stats = fixture_stats(l1);
  assert_int_equal(stats.used_bytes, total);
  assert_int_equal(stats.objects, 10);
  assert_int_equal(stats.inserted_objects, 10);
  assert_true(neap__l1_usage(l1) == (double)total / (64.0 * UNIT));
  assert_int_equal(neap__l1_evict(l1, fixture_slot(l1, 10)), 3 * UNIT);
  assert_int_equal(neap__l1_tenant_bytes(l1, 10 % TENANTS), tenants[10 % TENANTS] - 3 * UNIT);
  stats = fixture_stats(l1);
  assert_int_equal(stats.evicted_objects, 1);
  assert_int_equal(stats.evicted_bytes, 3 * UNIT);
  finish_units(l1);
}

/* --- leases --------------------------------------------------------------------------------------------------- */

static void a_temporary_object_leaves_with_its_last_lease(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  neap__lease staged = fixture_stage(l1, 1, UNIT, NEAP_RESERVE_TEMPORARY, &fixture_local), pin;
  assert_int_equal(neap__l1_commit(l1, staged, NULL, &request_7, 2, &pin), 0);
  neap__lease other = fixture_get(l1, 1, &worker_1, 1);
  assert_int_equal(fixture_stats(l1).temporary, 1);
  assert_int_equal(neap__l1_release(l1, pin, 1), 0);
  assert_int_equal(neap__l1_release(l1, other, 1), 0);
  assert_true(fixture_has(l1, 1));
  fixture_check(l1);
  assert_int_equal(neap__l1_release(l1, pin, 1), 0);
  assert_false(fixture_has(l1, 1));
  assert_int_equal(fixture_stats(l1).used_bytes, 0);
  assert_int_equal(fixture_stats(l1).temporary, 0);
  finish_units(l1);
}

static void a_lease_lasts_for_as_many_readers_as_it_was_given(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  fixture_put(l1, 1, UNIT, 0);
  neap__lease lease = fixture_get(l1, 1, &request_7, 5);
  neap__view view;
  assert_int_equal(neap__l1_release(l1, lease, 0), 0);
  assert_int_equal(neap__l1_release(l1, lease, 2), 0);
  assert_int_equal(neap__l1_release(l1, lease, 2), 0);
  assert_int_equal(neap__l1_view(l1, lease, &view), 0);
  assert_int_equal(neap__l1_release(l1, lease, 9), 0);
  assert_int_equal(neap__l1_release(l1, lease, 1), NEAP_ESTALE);
  lease = fixture_get(l1, 1, &request_7, 65535);
  assert_int_equal(neap__l1_release(l1, lease, 65534), 0);
  assert_int_equal(neap__l1_evict(l1, view.slot), NEAP_EBUSY);
  assert_int_equal(neap__l1_release(l1, lease, UINT32_MAX), 0);
  assert_int_equal(neap__l1_evict(l1, view.slot), UNIT);
  finish_units(l1);
}

static void readers_out_of_range_are_brought_into_it(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  fixture_put(l1, 1, UNIT, 0);
  neap__lease none = fixture_get(l1, 1, &request_7, 0), many = fixture_get(l1, 1, &request_7, 65536 + 3);
  assert_int_equal(neap__l1_release(l1, many, 65534), 0);
  assert_int_equal(neap__l1_release(l1, many, 1), 0);
  assert_int_equal(neap__l1_release(l1, many, 1), NEAP_ESTALE);
  assert_int_equal(neap__l1_release(l1, none, 1), 0);
  assert_int_equal(fixture_stats(l1).leases_used, 0);
  finish_units(l1);
}

static void a_stale_handle_is_an_error_in_every_call(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  neap__lease stale[5] = {NEAP_NO_LEASE, UINT64_MAX, 1, 0, 0}, pin;
  neap__view view;
  stale[3] = fixture_stage(l1, 1, UNIT, 0, &worker_1);
  assert_int_equal(neap__l1_release(l1, stale[3], 1), NEAP_ESTALE); /* not a reader's */
  assert_int_equal(neap__l1_commit(l1, stale[3], NULL, &request_7, 1, &stale[4]), 0);
  neap__lease read = fixture_get(l1, 1, &worker_1, 1);
  assert_int_equal(neap__l1_commit(l1, read, NULL, NULL, 0, NULL), NEAP_ESTALE); /* not a writer's */
  assert_int_equal(neap__l1_abort(l1, read), NEAP_ESTALE);
  assert_int_equal(neap__l1_release(l1, read, 1), 0);
  assert_int_equal(neap__l1_release(l1, stale[4], 1), 0);
  fixture_put(l1, 2, UNIT, 0);
  neap__lease reused[8];
  for (uint32_t i = 0; i < 8; i++) reused[i] = fixture_get(l1, 1 + i % 2, &worker_1, 1);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(stale); i++) {
    assert_int_equal(neap__l1_view(l1, stale[i], &view), NEAP_ESTALE);
    assert_int_equal(neap__l1_release(l1, stale[i], UINT32_MAX), NEAP_ESTALE);
    assert_int_equal(neap__l1_abort(l1, stale[i]), NEAP_ESTALE);
    assert_int_equal(neap__l1_commit(l1, stale[i], NULL, &worker_1, 1, &pin), NEAP_ESTALE);
  }
  for (uint32_t i = 0; i < 8; i++) assert_int_equal(neap__l1_release(l1, reused[i], 1), 0);
  finish_units(l1);
}

static void acquiring_can_stop_at_the_first_miss(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  const neap__key keys[] = {fixture_key(1), fixture_key(2), fixture_key(3), fixture_key(4)};
  neap__lease leases[4];
  fixture_put(l1, 1, UNIT, 0);
  fixture_put(l1, 2, UNIT, 0);
  fixture_put(l1, 4, UNIT, 0);
  assert_int_equal(neap__l1_acquire(l1, 4, keys, &request_7, 1, true, leases), 2);
  assert_true(leases[0] && leases[1] && !leases[2] && !leases[3]);
  assert_int_equal(fixture_stats(l1).leased, 2);
  assert_int_equal(neap__l1_drop_owner(l1, NEAP_OWNER_REQUEST, 7), 2);
  assert_int_equal(neap__l1_acquire(l1, 4, keys, &request_7, 1, false, leases), 3);
  assert_true(leases[0] && leases[1] && !leases[2] && leases[3]);
  assert_int_equal(neap__l1_drop_owner(l1, NEAP_OWNER_REQUEST, 7), 3);
  finish_units(l1);
}

static void an_acquisition_that_runs_out_of_leases_holds_nothing(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(64, 4);
  neap__key keys[4096], other = fixture_key(1);
  neap__lease leases[4096], kept;
  fixture_put(l1, 0, UNIT, 0);
  fixture_put(l1, 1, UNIT, 0);
  keys[0] = other;
  for (uint32_t i = 1; i < 4096; i++) keys[i] = fixture_key(0);
  kept = fixture_get(l1, 0, &fixture_local, 1);
  assert_int_equal(neap__l1_acquire(l1, 4096, keys, &request_7, 1, false, leases), NEAP_ELIMIT);
  for (uint32_t i = 0; i < 4096; i++) assert_true(leases[i] == NEAP_NO_LEASE);
  assert_int_equal(fixture_stats(l1).leases_used, 1);
  assert_int_equal(neap__l1_release(l1, kept, 1), 0);
  finish_units(l1);
}

static void an_owner_that_is_dropped_leaves_no_lease_and_nobody_else_loses_one(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(16, 16);
  fixture_put(l1, 1, UNIT, 0);
  fixture_put(l1, 2, UNIT, NEAP_RESERVE_TEMPORARY);
  neap__lease a = fixture_get(l1, 1, &worker_1, 3), b = fixture_get(l1, 2, &worker_1_again, 1);
  neap__lease c = fixture_stage(l1, 3, UNIT, 0, &worker_1), d = fixture_get(l1, 1, &request_7, 1);
  const neap__owner worker_2 = {.kind = NEAP_OWNER_TRANSFER, .id = 2};
  neap__lease e = fixture_stage(l1, 4, UNIT, 0, &worker_2);
  neap__view view;
  assert_int_equal(neap__l1_drop_owner(l1, NEAP_OWNER_TRANSFER, 3), 0);
  assert_int_equal(neap__l1_drop_owner(l1, NEAP_OWNER_TRANSFER, 1), 3);
  assert_int_equal(neap__l1_view(l1, a, &view), NEAP_ESTALE);
  assert_int_equal(neap__l1_view(l1, b, &view), NEAP_ESTALE);
  assert_int_equal(neap__l1_view(l1, c, &view), NEAP_ESTALE);
  assert_false(fixture_has(l1, 2));
  assert_int_equal(neap__l1_view(l1, d, &view), 0);
  assert_int_equal(neap__l1_view(l1, e, &view), 0);
  fixture_check(l1);
  assert_int_equal(neap__l1_release(l1, d, 1), 0);
  assert_int_equal(neap__l1_drop_owner(l1, NEAP_OWNER_TRANSFER, 2), 1);
  finish_units(l1);
}

typedef struct seen_leases {
  uint32_t staged, read;
  neap__owner last;
} seen_leases;

static void see_lease(void *ctx, neap__lease lease, const neap__owner *owner, bool staged) {
  seen_leases *seen = ctx;
  assert_true(lease != NEAP_NO_LEASE);
  *(staged ? &seen->staged : &seen->read) += 1;
  seen->last = *owner;
}

static void every_lease_of_an_outside_owner_is_listed(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(16, 16);
  seen_leases seen = {0};
  fixture_put(l1, 1, UNIT, 0);
  neap__lease mine = fixture_get(l1, 1, &fixture_local, 1), a = fixture_get(l1, 1, &request_7, 1);
  neap__l1_each_lease(l1, see_lease, &seen);
  assert_int_equal(seen.read, 1);
  assert_int_equal(seen.staged, 0);
  assert_int_equal(seen.last.kind, NEAP_OWNER_REQUEST);
  assert_int_equal(seen.last.id, 7);
  assert_int_equal(seen.last.request, 77);
  neap__lease b = fixture_stage(l1, 2, UNIT, 0, &worker_1);
  neap__l1_each_lease(l1, see_lease, &seen);
  assert_int_equal(seen.read, 2);
  assert_int_equal(seen.staged, 1);
  assert_int_equal(neap__l1_release(l1, mine, 1) | neap__l1_release(l1, a, 1) | neap__l1_abort(l1, b), 0);
  finish_units(l1);
}

/* --- events and looking --------------------------------------------------------------------------------------- */

typedef struct events {
  neap_event list[64];
  uint32_t count;
} events;

static void keep_events(void *ctx, const neap_event *list, uint32_t count) {
  events *e = ctx;
  for (uint32_t i = 0; i < count; i++) {
    assert_in_range(e->count, 0, 63);
    e->list[e->count++] = list[i];
  }
}

static void every_change_is_told_in_order_with_what_it_was_about(void **state) {
  (void)state;
  events e = {.count = 0};
  neap__l1_config config = fixture_config(8, 8);
  config.emit = keep_events;
  config.emit_ctx = &e;
  neap__l1 *l1 = fixture_open(&config, NULL);
  const neap__key keys[] = {fixture_key(3), fixture_key(99), fixture_key(2)};
  neap__lease lease = fixture_stage(l1, 3, 5000, 0, &request_7), pin;
  assert_int_equal(e.count, 0);
  assert_int_equal(neap__l1_commit(l1, lease, NULL, NULL, 0, NULL), 0);
  fixture_put(l1, 2, UNIT, NEAP_RESERVE_TEMPORARY);
  neap__l1_touch(l1, 3, keys, 70000, 78);
  neap__l1_touch(l1, 1, &keys[2], 0, 0);
  pin = fixture_get(l1, 2, &fixture_local, 1);
  assert_int_equal(neap__l1_release(l1, pin, 1), 0);
  pin = fixture_get(l1, 3, &fixture_local, 1);
  assert_int_equal(neap__l1_clear(l1, true), 1);
  assert_int_equal(neap__l1_release(l1, pin, 1), 0);
  const uint8_t types[] = {NEAP_EV_INSERT, NEAP_EV_INSERT, NEAP_EV_HIT,   NEAP_EV_HIT,
                           NEAP_EV_HIT,    NEAP_EV_REMOVE, NEAP_EV_REMOVE};
  assert_int_equal(e.count, NEAP_ARRAY_LEN(types));
  for (size_t i = 0; i < NEAP_ARRAY_LEN(types); i++) assert_int_equal(e.list[i].type, types[i]);
  assert_memory_equal(&e.list[0].h1, keys[0].hash, 4);
  assert_memory_equal(&e.list[0].h2, keys[0].hash + 4, 4);
  assert_int_equal(e.list[0].tenant, 3);
  assert_int_equal(e.list[0].kib, 5);
  assert_int_equal(e.list[0].request, 77);
  assert_int_equal(e.list[2].slot, e.list[0].slot);
  assert_int_equal(e.list[2].pos, UINT16_MAX);
  assert_int_equal(e.list[2].request, 78);
  assert_int_equal(e.list[3].slot, e.list[1].slot);
  assert_int_equal(e.list[4].pos, 0);
  assert_int_equal(e.list[5].detail, NEAP_REMOVE_EXPIRE);
  assert_int_equal(e.list[6].detail, NEAP_REMOVE_CLEAR);
  finish_units(l1);
}

typedef struct listing {
  uint32_t count, stop_after;
  uint64_t bytes;
} listing;

static bool list_object(void *ctx, uint32_t slot, const neap__key *key, uint64_t bytes) {
  listing *l = ctx;
  (void)slot;
  neap__key expected = fixture_key((uint32_t)bytes);
  assert_memory_equal(key, &expected, sizeof *key);
  l->bytes += bytes;
  return ++l->count < l->stop_after;
}

static void residents_are_listed_until_the_visitor_has_enough(void **state) {
  (void)state;
  neap__l1 *l1 = open_units(8, 8);
  for (uint32_t n = 1; n <= 5; n++) fixture_put(l1, n, n, 0);
  neap__lease staged = fixture_stage(l1, 6, 6, 0, &worker_1);
  listing all = {.stop_after = 100}, some = {.stop_after = 2};
  neap__l1_each_object(l1, list_object, &all);
  neap__l1_each_object(l1, list_object, &some);
  assert_int_equal(all.count, 5);
  assert_int_equal(all.bytes, 15);
  assert_int_equal(some.count, 2);
  assert_int_equal(neap__l1_abort(l1, staged), 0);
  finish_units(l1);
}

static void a_configuration_out_of_range_is_refused_by_name(void **state) {
  (void)state;
  const struct {
    uint64_t pool_bytes;
    uint32_t align_bytes, slots_max;
    const char *shm_name, *field;
  } bad[] = {
      {1 << 20, 0, 0, "", "l1-align-bytes"},
      {1 << 20, 32, 0, "", "l1-align-bytes"},
      {1 << 20, 96, 0, "", "l1-align-bytes"},
      {1 << 20, 1u << 31, 0, "", "l1-align-bytes"},
      {0, 64, 0, "", "l1-size-gb"},
      {63, 64, 0, "", "l1-size-gb"},
      {1ull << 40, 64, 0, "", "l1-size-gb"},
      {1 << 20, 64, (1u << 28) + 1, "", "l1-slots-max"},
      {1 << 20, 64, 0, "a/b", "shm-name"},
      {1 << 20, 64, 0, "..", "shm-name"},
      {1 << 20, 64, 0, "pool.meta", "shm-name"},
  };
  for (size_t i = 0; i < NEAP_ARRAY_LEN(bad); i++) {
    const neap__l1_config config = {.pool_bytes = bad[i].pool_bytes,
                                    .align_bytes = bad[i].align_bytes,
                                    .slots_max = bad[i].slots_max,
                                    .shm_name = bad[i].shm_name,
                                    .chunk_tokens = 16};
    neap__l1 *l1 = NULL;
    neap_error err = {""};
    assert_int_equal(neap__l1_open(&config, &l1, NULL, &err), NEAP_EINVAL);
    assert_null(l1);
    if (!strstr(err.text, bad[i].field)) fail_msg("\"%s\" does not name %s", err.text, bad[i].field);
  }
}

static void the_pool_can_be_touched_in_the_background(void **state) {
  (void)state;
  neap__l1_config config = fixture_config(4096, 0);
  config.prefault = true;
  neap__l1 *l1 = fixture_open(&config, NULL);
  neap_memory memory;
  size_t annex_bytes;
  neap__l1_memory(l1, &memory);
  uint8_t *annex = neap__l1_annex(l1, &annex_bytes);
  assert_int_equal(annex_bytes, NEAP_L1_ANNEX_BYTES);
  for (size_t i = 0; i < annex_bytes; i++) assert_int_equal(annex[i], 0);
  assert_int_equal(memory.bytes, config.pool_bytes);
  assert_string_equal(memory.shm_name, "");
  fixture_put(l1, 1, 4096 * UNIT, 0);
  while (fixture_stats(l1).prefaulted_bytes < config.pool_bytes) {
  }
  neap__lease lease = fixture_get(l1, 1, &fixture_local, 1);
  neap__view view;
  assert_int_equal(neap__l1_view(l1, lease, &view), 0);
  assert_true(fixture_holds(&view, 0));
  assert_ptr_equal(view.data, (uint8_t *)memory.base + view.offset);
  assert_int_equal(neap__l1_release(l1, lease, 1), 0);
  finish_units(l1);
}

static size_t own_shared_resident_bytes(void) {
  unsigned long kib = 0;
  char line[256];
  FILE *file = fopen("/proc/self/status", "r");
  assert_non_null(file);
  while (fgets(line, sizeof line, file) && sscanf(line, "RssShmem: %lu kB", &kib) != 1) {
  }
  fclose(file);
  return kib * 1024;
}

static void a_pool_touched_in_the_background_is_there_but_not_mapped_into_this_process(void **state) {
  (void)state;
  enum { UNITS = 4096 };
  unsigned char resident[UNITS];
  size_t before = own_shared_resident_bytes();
  neap__l1_config config = fixture_config(UNITS, 0);
  config.prefault = true;
  neap__l1 *l1 = fixture_open(&config, NULL);
  while (fixture_stats(l1).prefaulted_bytes < config.pool_bytes) {
  }
  neap_memory memory;
  neap__l1_memory(l1, &memory);
  assert_int_equal(mincore(memory.base, memory.bytes, resident), 0);
  for (size_t i = 0; i < UNITS; i++) assert_true(resident[i] & 1);
  assert_true(own_shared_resident_bytes() < before + config.pool_bytes / 4);
  finish_units(l1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(staged_objects_are_invisible_until_their_commit),
      cmocka_unit_test(the_first_commit_wins_and_the_later_one_frees_its_buffer),
      cmocka_unit_test(a_reservation_of_a_resident_key_says_so_and_takes_nothing),
      cmocka_unit_test(an_exclusive_reservation_is_refused_while_anybody_writes_the_key),
      cmocka_unit_test(a_key_twice_in_one_batch_gets_two_buffers),
      cmocka_unit_test(a_batch_that_does_not_fit_stages_nothing),
      cmocka_unit_test(a_batch_that_finds_no_slot_or_lease_stages_nothing),
      cmocka_unit_test(a_commit_without_a_lease_left_for_the_pin_is_published_all_the_same),
      cmocka_unit_test(objects_of_no_bytes_or_more_than_the_pool_are_invalid),
      cmocka_unit_test(a_batch_of_nothing_is_nothing),
      cmocka_unit_test(a_staged_lease_is_found_by_key_and_whole_owner),
      cmocka_unit_test(accounts_are_exact_for_each_tenant_and_in_total),
      cmocka_unit_test(a_temporary_object_leaves_with_its_last_lease),
      cmocka_unit_test(a_lease_lasts_for_as_many_readers_as_it_was_given),
      cmocka_unit_test(readers_out_of_range_are_brought_into_it),
      cmocka_unit_test(a_stale_handle_is_an_error_in_every_call),
      cmocka_unit_test(acquiring_can_stop_at_the_first_miss),
      cmocka_unit_test(an_acquisition_that_runs_out_of_leases_holds_nothing),
      cmocka_unit_test(an_owner_that_is_dropped_leaves_no_lease_and_nobody_else_loses_one),
      cmocka_unit_test(every_lease_of_an_outside_owner_is_listed),
      cmocka_unit_test(every_change_is_told_in_order_with_what_it_was_about),
      cmocka_unit_test(residents_are_listed_until_the_visitor_has_enough),
      cmocka_unit_test(a_configuration_out_of_range_is_refused_by_name),
      cmocka_unit_test(the_pool_can_be_touched_in_the_background),
      cmocka_unit_test(a_pool_touched_in_the_background_is_there_but_not_mapped_into_this_process),
  };
  return cmocka_run_group_tests_name("l1", tests, NULL, NULL);
}
