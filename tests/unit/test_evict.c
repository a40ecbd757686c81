/* SPDX-License-Identifier: MIT
 *
 * The journey out: room ahead of demand, room at once, quotas, and what is never touched. */
#include "support/flow_rig.h"

#define GB (1024.0 * 1024.0 * 1024.0)

/* Row 0 of objects first, first + 1, ...: as a worker commits them, tail first when `down`. */
static void commit(flow_rig *rig, uint32_t first, uint32_t count, bool down) {
  for (uint32_t i = 0; i < count; i++) assert_int_equal(flow_commit(rig, down ? first + count - 1 - i : first + i), 0);
}

static void check(flow_rig *rig) {
  neap__evictor_check(rig->engine->evictor);
  flow_turn(rig);
}

static neap__evictor_stats stats_of(flow_rig *rig) {
  neap__evictor_stats stats;
  neap__evictor_stats_get(rig->engine->evictor, &stats);
  return stats;
}

static int commit_for(flow_rig *rig, uint32_t n, uint32_t tenant) {
  neap__key key = flow_key(rig, n, 0);
  neap__lease lease;
  key.tenant = tenant;
  int rc = flow_reserve(rig, &key, FLOW_BYTES, &lease);
  return rc ? rc : neap__l1_commit(rig->l1, lease, NULL, NULL, 0, NULL);
}

/* --- ahead of demand ------------------------------------------------------------------------------------------ */

static void below_the_watermark_nothing_is_evicted(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 0.5;
  flow_open(rig, 0);
  commit(rig, 0, 31, false);
  check(rig);
  assert_int_equal(flow_l1(rig).objects, 31);
  assert_int_equal(stats_of(rig).triggered, 0);
}

static void at_the_watermark_the_tail_goes_first_and_little_more_than_needed(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 0.5;
  flow_open(rig, 0);
  commit(rig, 0, 36, true);
  check(rig);
  /* 4 of 64 above the mark, and a tenth of the ratio (1.28) on top */
  assert_int_equal(flow_l1(rig).objects, 30);
  assert_true(neap__l1_usage(rig->l1) < 0.5);
  for (uint32_t n = 0; n < 36; n++) assert_int_equal(flow_resident(rig, n), n < 30);
}

static void one_pass_takes_no_more_than_the_ratio_but_passes_follow_until_usage_is_below(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 0.25;
  rig->config.ratio = 0.125;
  flow_open(rig, 0);
  commit(rig, 0, 60, true);
  check(rig);
  assert_true(neap__l1_usage(rig->l1) < 0.25);
  uint64_t evicted = flow_l1(rig).evicted_objects;
  assert_true(stats_of(rig).triggered >= evicted / 8 && evicted < 60);
}

static void passes_end_when_nothing_may_go(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 0.25;
  flow_open(rig, 0);
  commit(rig, 0, 32, false);
  flow_fetch *pins = flow_ask(rig, 0, 32);
  check(rig);
  uint64_t passes = stats_of(rig).passes;
  flow_turn(rig);
  assert_int_equal(stats_of(rig).passes, passes);
  assert_int_equal(flow_l1(rig).objects, 32);
  flow_end(pins);
}

static void a_pass_spares_what_is_leased(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 0.5;
  flow_open(rig, 0);
  commit(rig, 0, 40, false);
  flow_fetch *pins = flow_ask(rig, 0, 20);
  check(rig);
  for (uint32_t n = 0; n < 20; n++) assert_true(flow_resident(rig, n));
  assert_true(neap__l1_usage(rig->l1) < 0.5);
  assert_true(stats_of(rig).kept_proposals > 0);
  flow_end(pins);
}

static void noop_evicts_nothing_and_a_full_l1_says_so(void **state) {
  flow_rig *rig = *state;
  rig->config.eviction_policy = "noop";
  flow_open(rig, 0);
  commit(rig, 0, 64, false);
  check(rig);
  assert_int_equal(flow_commit(rig, 100), NEAP_ENOSPC);
  assert_int_equal(flow_l1(rig).objects, 64);
}

/* --- at once -------------------------------------------------------------------------------------------------- */

static void a_full_l1_makes_room_for_a_writer_and_touches_no_lease(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 2.0; /* nothing ahead of demand */
  flow_open(rig, 0);
  commit(rig, 0, 64, false);
  flow_fetch *pins = flow_ask(rig, 0, 60);
  commit(rig, 100, 200, false);
  assert_int_equal(flow_answer(pins), 60);
  assert_int_equal(flow_l1(rig).objects, 64);
  assert_int_equal(flow_l1(rig).evicted_objects, 200);
  assert_true(flow_resident(rig, 299));
  flow_end(pins);
}

static void when_all_is_leased_the_answer_is_no_space_at_once(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 2.0;
  flow_open(rig, 0);
  commit(rig, 0, 64, false);
  flow_fetch *pins = flow_ask(rig, 0, 64);
  for (uint32_t i = 0; i < 100; i++) assert_int_equal(flow_commit(rig, 100), NEAP_ENOSPC);
  assert_int_equal(stats_of(rig).failures, 100);
  assert_true(stats_of(rig).kept_proposals <= 100 * (64 + 32));
  flow_end(pins);
  assert_int_equal(flow_commit(rig, 100), 0);
}

static void a_batch_that_can_never_fit_evicts_nothing(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 2.0;
  flow_open(rig, 0);
  commit(rig, 0, 64, false);
  enum { COUNT = 65 }; /* 65000 bytes, but L1 takes 1024 for each */
  neap__key keys[COUNT];
  uint64_t bytes[COUNT];
  neap__lease leases[COUNT];
  int results[COUNT];
  const neap__owner owner = {.kind = NEAP_OWNER_LOCAL};
  for (uint32_t i = 0; i < COUNT; i++) keys[i] = flow_key(rig, 100 + i, 0), bytes[i] = 1000;
  assert_int_equal(neap__evictor_reserve(rig->engine->evictor, COUNT, keys, bytes, 0, &owner, leases, results),
                   NEAP_ENOSPC);
  assert_int_equal(flow_l1(rig).objects, 64);
}

static void a_shortage_of_leases_evicts_nothing(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 0);
  commit(rig, 0, 20, false);
  neap__key dry = flow_key(rig, 0, 0), other = flow_key(rig, 101, 0);
  neap__lease held[2048];
  uint32_t count = 0;
  while (count < 2048 && (held[count] = flow_lease(rig, 0)) != NEAP_NO_LEASE) count++;
  neap__key keys[2] = {other, flow_key(rig, 200, 0)};
  for (uint32_t n = 201; ((neap__key_hash(&keys[1]) ^ neap__key_hash(&dry)) & 63) != 0; n++)
    keys[1] = flow_key(rig, n, 0); /* leases are kept by the low bits of the key's hash */
  const uint64_t bytes[2] = {FLOW_BYTES, FLOW_BYTES};
  neap__lease leases[2];
  int results[2];
  const neap__owner owner = {.kind = NEAP_OWNER_LOCAL};
  assert_int_equal(neap__evictor_reserve(rig->engine->evictor, 2, keys, bytes, 0, &owner, leases, results),
                   NEAP_ELIMIT);
  assert_int_equal(flow_l1(rig).objects, 20);
  while (count > 0) neap__l1_release(rig->l1, held[--count], UINT32_MAX);
}

static void mixed_sizes_are_served_by_evicting_neighbours(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 2.0;
  flow_open(rig, 0);
  for (uint32_t n = 0; n < 256; n++) assert_int_equal(flow_commit_sized(rig, n, 0, FLOW_BYTES / 4), 0);
  neap__lease pins[8];
  for (uint32_t i = 0; i < 8; i++) pins[i] = flow_lease(rig, i * 32); /* no run longer than 31 quarters */
  assert_int_equal(flow_commit_sized(rig, 300, 0, 7 * FLOW_BYTES), 0);
  assert_int_equal(flow_commit_sized(rig, 301, 0, 8 * FLOW_BYTES), NEAP_ENOSPC);
  assert_true(flow_l1(rig).objects > 8); /* the failure was found before everything was gone */
  for (uint32_t i = 0; i < 8; i++) {
    assert_true(flow_resident(rig, i * 32));
    neap__l1_release(rig->l1, pins[i], UINT32_MAX);
  }
}

static void keys_that_are_there_need_no_room(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 2.0;
  flow_open(rig, 0);
  commit(rig, 0, 64, false);
  assert_int_equal(flow_commit(rig, 5), NEAP_EEXIST);
  assert_int_equal(flow_l1(rig).evicted_objects, 0);
}

typedef struct writer {
  flow_rig *rig;
  pthread_t thread;
  uint32_t first, failures;
} writer;

static void *write_many(void *arg) {
  writer *w = arg;
  for (uint32_t i = 0; i < 400; i++) w->failures += flow_commit(w->rig, w->first + i % 200) == NEAP_ENOSPC;
  return NULL;
}

static void writers_that_compete_for_the_last_room_all_get_some(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 0.9;
  flow_open(rig, 0);
  commit(rig, 0, 64, false);
  flow_fetch *pins = flow_ask(rig, 0, 56);
  writer writers[4]; /* 8 places for 4 */
  for (uint32_t i = 0; i < 4; i++) {
    writers[i] = (writer){.rig = rig, .first = 100 + 200 * i};
    assert_int_equal(pthread_create(&writers[i].thread, NULL, write_many, &writers[i]), 0);
  }
  for (uint32_t i = 0; i < 400; i++) neap__evictor_check(rig->engine->evictor);
  uint32_t failures = 0;
  for (uint32_t i = 0; i < 4; i++) {
    pthread_join(writers[i].thread, NULL);
    failures += writers[i].failures;
  }
  assert_int_equal(failures, 0);
  assert_int_equal(flow_answer(pins), 56);
  flow_end(pins);
}

/* --- quotas --------------------------------------------------------------------------------------------------- */

static void a_tenant_over_its_quota_loses_the_excess_and_others_nothing(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 0);
  for (uint32_t n = 0; n < 20; n++) assert_int_equal(commit_for(rig, n, rig->tenant), 0);
  commit(rig, 100, 10, false);
  neap__quota_set(rig->engine->evictor, rig->tenant, 12 * FLOW_BYTES / GB);
  flow_turn(rig);
  assert_int_equal(neap__l1_tenant_bytes(rig->l1, rig->tenant), 12 * FLOW_BYTES);
  assert_int_equal(neap__l1_tenant_bytes(rig->l1, 0), 10 * FLOW_BYTES);
  assert_int_equal(commit_for(rig, 50, rig->tenant), 0); /* soft: the write succeeds */
  check(rig);
  assert_int_equal(neap__l1_tenant_bytes(rig->l1, rig->tenant), 12 * FLOW_BYTES);
}

static void count_quota(void *ctx, uint32_t tenant, double limit_gb) {
  (void)tenant;
  *(double *)ctx += limit_gb;
}

static void quotas_are_set_changed_listed_and_removed(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 0);
  neap__evictor *ev = rig->engine->evictor;
  double limit = 0, sum = 0;
  assert_false(neap__quota_get(ev, 3, &limit));
  assert_false(neap__quota_remove(ev, 3));
  for (uint32_t tenant = 0; tenant < 100; tenant++) neap__quota_set(ev, tenant, 1);
  neap__quota_set(ev, 3, 5);
  assert_true(neap__quota_get(ev, 3, &limit) && limit > 4);
  neap__quota_each(ev, count_quota, &sum);
  assert_int_equal((int)sum, 104);
  assert_true(neap__quota_remove(ev, 3));
  assert_false(neap__quota_get(ev, 3, &limit));
  assert_true(neap__quota_get(ev, 99, &limit));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, flow_setup, flow_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(below_the_watermark_nothing_is_evicted),
      TEST(at_the_watermark_the_tail_goes_first_and_little_more_than_needed),
      TEST(one_pass_takes_no_more_than_the_ratio_but_passes_follow_until_usage_is_below),
      TEST(passes_end_when_nothing_may_go),
      TEST(a_pass_spares_what_is_leased),
      TEST(noop_evicts_nothing_and_a_full_l1_says_so),
      TEST(a_full_l1_makes_room_for_a_writer_and_touches_no_lease),
      TEST(when_all_is_leased_the_answer_is_no_space_at_once),
      TEST(a_batch_that_can_never_fit_evicts_nothing),
      TEST(a_shortage_of_leases_evicts_nothing),
      TEST(mixed_sizes_are_served_by_evicting_neighbours),
      TEST(keys_that_are_there_need_no_room),
      TEST(writers_that_compete_for_the_last_room_all_get_some),
      TEST(a_tenant_over_its_quota_loses_the_excess_and_others_nothing),
      TEST(quotas_are_set_changed_listed_and_removed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
