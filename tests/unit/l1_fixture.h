/* SPDX-License-Identifier: MIT
 *
 * unit/l1_fixture.h - what the tests of L1 share: an L1 of a few units with names for four tenants, keys by number,
 * bytes that tell whose they are, and calls that must succeed. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "l1/l1.h"
#include "support/random.h"

#define UNIT 4096u
#define TENANTS 4u

static inline void fixture_names(neap__l1 *l1) {
  static const char *const salts[TENANTS] = {"", "one", "two", "three"};
  neap__layout layout;
  const uint64_t shape[] = {2, 16, 8};
  uint32_t number;
  assert_int_equal(neap__layout_init(&layout, shape, 3, "bfloat16", 16, NULL), 0);
  assert_int_equal(neap__names_space(neap__l1_names(l1), "model", 5, &layout, &number), 0);
  assert_int_equal(number, 0);
  for (uint32_t i = 0; i < TENANTS; i++) {
    assert_int_equal(neap__names_tenant(neap__l1_names(l1), salts[i], strlen(salts[i]), &number), 0);
    assert_int_equal(number, i);
  }
}

static inline neap__l1_config fixture_config(uint32_t units, uint32_t slots) {
  return (neap__l1_config){
      .pool_bytes = (uint64_t)units * UNIT, .align_bytes = UNIT, .chunk_tokens = 16, .slots_max = slots};
}

static inline neap__l1 *fixture_open(const neap__l1_config *config, neap__l1_report *report) {
  neap__l1 *l1 = NULL;
  neap_error err = {""};
  if (neap__l1_open(config, &l1, report, &err) != 0) fail_msg("%s", err.text);
  fixture_names(l1);
  return l1;
}

static inline void fixture_check(neap__l1 *l1) {
  neap_error err = {""};
  if (neap__l1_check(l1, &err) != 0) fail_msg("%s", err.text);
}

static inline neap__key fixture_key(uint32_t n) {
  neap__key key = {.rank = neap__rank(1, 0), .tenant = n % TENANTS};
  uint64_t state = n;
  for (size_t i = 0; i < sizeof key.hash; i += 8) {
    uint64_t word = random_next(&state);
    memcpy(key.hash + i, &word, sizeof word);
  }
  return key;
}

/* Bytes that no other key and no other version of this key has. */
static inline void fixture_fill(const neap__view *view, uint64_t version) {
  uint64_t state, word;
  memcpy(&state, view->key.hash, sizeof state);
  state ^= version << 32;
  for (uint64_t at = 0; at < view->bytes; at += 8) {
    word = random_next(&state);
    memcpy(view->data + at, &word, NEAP_MIN(view->bytes - at, 8));
  }
}

static inline bool fixture_holds(const neap__view *view, uint64_t version) {
  uint64_t state, word;
  memcpy(&state, view->key.hash, sizeof state);
  state ^= version << 32;
  for (uint64_t at = 0; at < view->bytes; at += 8) {
    word = random_next(&state);
    if (memcmp(view->data + at, &word, NEAP_MIN(view->bytes - at, 8)) != 0) return false;
  }
  return true;
}

static const neap__owner fixture_local = {.kind = NEAP_OWNER_LOCAL};

static inline neap__lease fixture_stage(neap__l1 *l1, uint32_t n, uint64_t bytes, uint32_t flags,
                                        const neap__owner *owner) {
  neap__key key = fixture_key(n);
  neap__lease lease = NEAP_NO_LEASE;
  int result = -1;
  assert_int_equal(neap__l1_reserve(l1, 1, &key, &bytes, flags, owner, &lease, &result), 0);
  assert_int_equal(result, 0);
  assert_true(lease != NEAP_NO_LEASE);
  return lease;
}

static inline void fixture_fill_lease(neap__l1 *l1, neap__lease lease, uint64_t version) {
  neap__view view;
  assert_int_equal(neap__l1_view(l1, lease, &view), 0);
  fixture_fill(&view, version);
}

static inline void fixture_put(neap__l1 *l1, uint32_t n, uint64_t bytes, uint32_t flags) {
  neap__lease lease = fixture_stage(l1, n, bytes, flags, &fixture_local);
  fixture_fill_lease(l1, lease, 0);
  bool won = false;
  assert_int_equal(neap__l1_commit(l1, lease, &won, NULL, 0, NULL), 0);
  assert_true(won);
}

/* A lease on n, or NEAP_NO_LEASE when it is not there. */
static inline neap__lease fixture_get(neap__l1 *l1, uint32_t n, const neap__owner *owner, uint32_t readers) {
  neap__key key = fixture_key(n);
  neap__lease lease;
  int held = neap__l1_acquire(l1, 1, &key, owner, readers, false, &lease);
  assert_int_equal(held, lease != NEAP_NO_LEASE);
  return lease;
}

static inline bool fixture_has(neap__l1 *l1, uint32_t n) {
  neap__key key = fixture_key(n);
  bool present;
  neap__l1_contains(l1, 1, &key, &present);
  return present;
}

static inline uint32_t fixture_slot(neap__l1 *l1, uint32_t n) {
  neap__lease lease = fixture_get(l1, n, &fixture_local, 1);
  neap__view view;
  assert_int_equal(neap__l1_view(l1, lease, &view), 0);
  assert_int_equal(neap__l1_release(l1, lease, 1), 0);
  return view.slot;
}

static inline neap__l1_stats fixture_stats(neap__l1 *l1) {
  neap__l1_stats stats;
  neap__l1_stats_get(l1, &stats);
  return stats;
}

static const neap__owner request_7 = {.kind = NEAP_OWNER_REQUEST, .id = 7, .request = 77};
static const neap__owner worker_1 = {.kind = NEAP_OWNER_TRANSFER, .id = 1, .tag = 10};
static const neap__owner worker_1_again = {.kind = NEAP_OWNER_TRANSFER, .id = 1, .tag = 11};

static inline neap__l1 *open_units(uint32_t units, uint32_t slots) {
  neap__l1_config config = fixture_config(units, slots);
  return fixture_open(&config, NULL);
}

/* Everything is given back and nothing is left behind. */
static inline void finish_units(neap__l1 *l1) {
  fixture_check(l1);
  neap__l1_clear(l1, true);
  neap__l1_stats stats = fixture_stats(l1);
  assert_int_equal(stats.leases_used, 0);
  assert_int_equal(stats.used_bytes, 0);
  assert_int_equal(stats.staged_bytes, 0);
  assert_int_equal(stats.objects + stats.staged + stats.temporary + stats.leased, 0);
  for (uint32_t i = 0; i < TENANTS; i++) assert_int_equal(neap__l1_tenant_bytes(l1, i), 0);
  assert_int_equal(stats.largest_free_bytes, stats.pool_bytes / UNIT * UNIT);
  fixture_check(l1);
  neap__l1_close(l1, false);
}
