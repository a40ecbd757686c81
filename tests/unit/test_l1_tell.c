/* SPDX-License-Identifier: MIT
 *
 * What L1 tells beside INSERT, HIT and REMOVE, and only to whom it may concern: leases that begin and end, positions,
 * misses, requests, tiers. */
#include <pthread.h>
#include <stdatomic.h>

#include "l1_fixture.h"

#define EVENTS_MAX 64u
#define SLOTS 64u
#define PINS (NEAP_WANTS(PIN) | NEAP_WANTS(UNPIN))

static neap_event told[EVENTS_MAX];
static uint32_t told_count;
static _Atomic uint32_t wanted;

static void note(void *ctx, const neap_event *events, uint32_t count) {
  (void)ctx;
  for (uint32_t i = 0; i < count && told_count < EVENTS_MAX; i++) told[told_count++] = events[i];
}

static neap__l1 *open_wanting(uint32_t events) {
  neap__l1_config config = fixture_config(16, SLOTS);
  config.emit = note;
  config.wanted = &wanted;
  wanted = events;
  told_count = 0;
  return fixture_open(&config, NULL);
}

static void expect_told(uint32_t count, const neap_event_type *types) {
  for (uint32_t i = 0; i < NEAP_MIN(count, told_count); i++) assert_int_equal(told[i].type, types[i]);
  assert_int_equal(told_count, count);
  told_count = 0;
}

#define TOLD(...)                                                                                   \
  expect_told((uint32_t)(sizeof((const neap_event_type[]){__VA_ARGS__}) / sizeof(neap_event_type)), \
              (const neap_event_type[]){__VA_ARGS__})

static void only_a_first_lease_pins_and_only_a_last_one_unpins(void **state) {
  (void)state;
  neap__l1 *l1 = open_wanting(PINS);
  fixture_put(l1, 0, UNIT, 0);
  TOLD(NEAP_EV_INSERT);
  neap__lease first = fixture_get(l1, 0, &fixture_local, 2), second = fixture_get(l1, 0, &request_7, 1);
  TOLD(NEAP_EV_PIN);
  neap__l1_release(l1, first, 1);
  neap__l1_release(l1, second, 1);
  expect_told(0, NULL);
  neap__l1_release(l1, first, 1);
  assert_int_equal(told[0].slot, fixture_slot(l1, 0)); /* a lease of its own */
  TOLD(NEAP_EV_UNPIN, NEAP_EV_PIN, NEAP_EV_UNPIN);
  finish_units(l1);
}

static void a_lease_taken_with_the_commit_pins_after_the_insert(void **state) {
  (void)state;
  neap__l1 *l1 = open_wanting(PINS);
  neap__lease lease = fixture_stage(l1, 0, UNIT, 0, &worker_1), pin;
  expect_told(0, NULL); /* a writer's lease is nobody's business */
  neap__l1_place(l1, lease, 12);
  assert_int_equal(neap__l1_commit(l1, lease, NULL, &fixture_local, 1, &pin), 0);
  assert_int_equal(told[0].pos, 12);
  TOLD(NEAP_EV_INSERT, NEAP_EV_PIN);
  neap__key key = fixture_key(0);
  assert_int_equal(neap__l1_remove(l1, &key, true), 0);
  neap__l1_release(l1, pin, 1);
  TOLD(NEAP_EV_REMOVE);         /* says it all */
  neap__l1_place(l1, lease, 1); /* a stale lease */
  finish_units(l1);
}

static void a_temporary_object_goes_without_an_unpin(void **state) {
  (void)state;
  neap__l1 *l1 = open_wanting(PINS);
  neap__lease lease = fixture_stage(l1, 0, UNIT, NEAP_RESERVE_TEMPORARY, &fixture_local), pin;
  assert_int_equal(neap__l1_commit(l1, lease, NULL, &fixture_local, 1, &pin), 0);
  neap__l1_release(l1, pin, 1);
  TOLD(NEAP_EV_INSERT, NEAP_EV_PIN, NEAP_EV_REMOVE);
  fixture_put(l1, 1, UNIT, 0); /* the slot's next object starts afresh */
  neap__l1_release(l1, fixture_get(l1, 1, &fixture_local, 1), 1);
  TOLD(NEAP_EV_INSERT, NEAP_EV_PIN, NEAP_EV_UNPIN);
  finish_units(l1);
}

static void what_nobody_wants_is_not_told(void **state) {
  (void)state;
  neap__l1 *l1 = open_wanting(0);
  fixture_put(l1, 0, UNIT, 0);
  neap__lease lease = fixture_get(l1, 0, &fixture_local, 1);
  neap__key key = fixture_key(1);
  neap__l1_tell_tier(l1, lease, NEAP_EV_STORED, 3);
  neap__l1_tell_miss(l1, &key, 0, 0);
  neap__l1_tell_request(l1, 0, 1, 2, 3);
  neap__l1_tell_tick(l1);
  neap__l1_tell_pins(l1);
  neap__l1_release(l1, lease, 1);
  TOLD(NEAP_EV_INSERT);
  finish_units(l1);
}

static void who_begins_to_want_pins_is_told_what_has_changed(void **state) {
  (void)state;
  neap__l1 *l1 = open_wanting(0);
  for (uint32_t n = 0; n < 3; n++) fixture_put(l1, n, UNIT, 0);
  neap__lease zero = fixture_get(l1, 0, &fixture_local, 1), one = fixture_get(l1, 1, &fixture_local, 1);
  told_count = 0;
  wanted = PINS;
  neap__l1_tell_pins(l1);
  neap__l1_tell_pins(l1);
  TOLD(NEAP_EV_PIN, NEAP_EV_PIN);
  wanted = 0;
  neap__l1_release(l1, zero, 1);
  expect_told(0, NULL);
  wanted = PINS;
  neap__l1_tell_pins(l1);
  TOLD(NEAP_EV_UNPIN);
  neap__l1_release(l1, one, 1);
  TOLD(NEAP_EV_UNPIN);
  finish_units(l1);
}

static void tiers_misses_requests_and_ticks_carry_what_they_are_about(void **state) {
  (void)state;
  neap__l1 *l1 = open_wanting(UINT32_MAX);
  fixture_put(l1, 6, 3 * 1024 - 5, 0);
  neap__lease lease = fixture_get(l1, 6, &fixture_local, 1);
  told_count = 0;
  neap__l1_tell_tier(l1, lease, NEAP_EV_LOADED, 5);
  neap__key key = fixture_key(6), absent = fixture_key(3);
  uint32_t words[2];
  memcpy(words, key.hash, sizeof words);
  assert_int_equal(told[0].h1, words[0]);
  assert_int_equal(told[0].h2, words[1]);
  assert_int_equal(told[0].detail, 5);
  assert_int_equal(told[0].kib, 3);
  assert_int_equal(told[0].tenant, 2);
  TOLD(NEAP_EV_LOADED);
  neap__l1_release(l1, lease, 1);
  told_count = 0;
  neap__l1_tell_tier(l1, lease, NEAP_EV_STORED, 1);
  expect_told(0, NULL);
  neap__l1_tell_miss(l1, &absent, 70000, 9);
  assert_int_equal(told[0].slot, NEAP_POLICY_NO_SLOT);
  assert_int_equal(told[0].pos, UINT16_MAX);
  assert_int_equal(told[0].request, 9);
  assert_int_equal(told[0].tenant, 3);
  neap__l1_tell_request(l1, 3, 9, UINT64_C(0x200000001), 40);
  assert_int_equal(told[1].pos, 40);
  assert_int_equal(told[1].h1, 1);
  assert_int_equal(told[1].h2, 2);
  neap__l1_tell_tick(l1);
  TOLD(NEAP_EV_MISS, NEAP_EV_REQUEST, NEAP_EV_TICK);
  finish_units(l1);
}

/* --- many threads --------------------------------------------------------------------------------------------- */

enum { THREADS = 4, KEYS = 12, ROUNDS = 20000 };

/* What a listener makes of the events; each slot's come under one lock, one after the other. */
static struct { _Atomic bool resident, pinned; } heard[SLOTS];
static _Atomic uint32_t wrong;

static void listen(void *ctx, const neap_event *events, uint32_t count) {
  (void)ctx;
  for (uint32_t i = 0; i < count; i++) {
    if (events[i].type == NEAP_EV_HIT) continue;
    uint32_t type = events[i].type, slot = events[i].slot;
    bool resident = heard[slot].resident, pinned = heard[slot].pinned;
    bool fits = (type == NEAP_EV_INSERT && !resident) || (type == NEAP_EV_REMOVE && resident) ||
                (type == NEAP_EV_PIN && resident && !pinned) || (type == NEAP_EV_UNPIN && resident && pinned);
    if (!fits) atomic_fetch_add(&wrong, 1);
    heard[slot].resident = type != NEAP_EV_REMOVE;
    heard[slot].pinned = type == NEAP_EV_PIN;
  }
}

typedef struct worker {
  pthread_t thread;
  neap__l1 *l1;
  uint64_t random;
} worker;

static void *work(void *arg) {
  worker *w = arg;
  for (uint32_t round = 0; round < ROUNDS; round++) {
    uint64_t dice = random_next(&w->random);
    uint32_t n = (uint32_t)(dice >> 8) % KEYS;
    neap__key key = fixture_key(n);
    neap__lease lease;
    if (dice % 16 == 0) {
      neap__l1_remove(w->l1, &key, dice & 16);
    } else if (dice % 16 == 1) {
      uint64_t bytes = UNIT;
      int result = -1;
      uint32_t flags = dice & 32 ? NEAP_RESERVE_TEMPORARY : 0;
      if (neap__l1_reserve(w->l1, 1, &key, &bytes, flags, &fixture_local, &lease, &result) != 0 || result != 0)
        continue;
      neap__lease pin = NEAP_NO_LEASE;
      neap__l1_commit(w->l1, lease, NULL, dice & 64 ? &fixture_local : NULL, 1, dice & 64 ? &pin : NULL);
      if (pin != NEAP_NO_LEASE) neap__l1_release(w->l1, pin, 1);
    } else if (dice % 1024 == 2) {
      wanted = dice & 4096 ? PINS : 0;
      neap__l1_tell_pins(w->l1);
    } else if (neap__l1_acquire(w->l1, 1, &key, &fixture_local, 1, true, &lease) == 1) {
      neap__l1_release(w->l1, lease, 1);
    }
  }
  return NULL;
}

static void pins_of_many_threads_alternate_and_end_with_the_truth(void **state) {
  (void)state;
  worker workers[THREADS];
  neap__l1_config config = fixture_config(2 * KEYS, SLOTS);
  config.emit = listen;
  config.wanted = &wanted;
  wanted = PINS;
  neap__l1 *l1 = fixture_open(&config, NULL);
  for (uint32_t i = 0; i < THREADS; i++) {
    workers[i] = (worker){.l1 = l1, .random = i + 1};
    assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
  }
  for (uint32_t i = 0; i < THREADS; i++) assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
  wanted = PINS;
  neap__l1_tell_pins(l1);
  assert_int_equal(wrong, 0);
  for (uint32_t slot = 0; slot < SLOTS; slot++) assert_false(heard[slot].resident && heard[slot].pinned);
  for (uint32_t n = 0; n < KEYS; n++) {
    neap__lease lease = fixture_get(l1, n, &fixture_local, 1);
    neap__view view;
    if (lease == NEAP_NO_LEASE) continue;
    assert_int_equal(neap__l1_view(l1, lease, &view), 0);
    assert_true(heard[view.slot].resident && heard[view.slot].pinned);
    neap__l1_release(l1, lease, 1);
  }
  finish_units(l1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(only_a_first_lease_pins_and_only_a_last_one_unpins),
      cmocka_unit_test(a_lease_taken_with_the_commit_pins_after_the_insert),
      cmocka_unit_test(a_temporary_object_goes_without_an_unpin),
      cmocka_unit_test(what_nobody_wants_is_not_told),
      cmocka_unit_test(who_begins_to_want_pins_is_told_what_has_changed),
      cmocka_unit_test(tiers_misses_requests_and_ticks_carry_what_they_are_about),
      cmocka_unit_test(pins_of_many_threads_alternate_and_end_with_the_truth),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
