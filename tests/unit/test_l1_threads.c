/* SPDX-License-Identifier: MIT
 *
 * Four threads do everything at once to a small pool. Whoever holds a lease sees the bytes of its key, all of one
 * writer, and they stay as they are; in the end every unit is accounted for. NEAP_STEPS sets the steps of a thread. */
#include <pthread.h>
#include <stdatomic.h>

#include "unit/l1_fixture.h"

#define THREADS 4u
#define KEYS 40u
#define UNITS 64u
#define SLOTS 48u
#define BATCH 4u

typedef struct worker {
  neap__l1 *l1;
  uint32_t number;
  uint64_t seed;
  const char *fault;
  uint64_t reads, writes, stale;
  pthread_t thread;
} worker;

static _Atomic uint32_t versions;

/* Every 8 bytes: the key and the version, so that bytes of another key, or of two writers, show. */
static uint64_t pattern(const neap__key *key, uint64_t version) {
  uint64_t word;
  memcpy(&word, key->hash, sizeof word);
  return (word & 0xffffffff) << 32 | version;
}

static bool is_whole(const neap__view *view) {
  const uint64_t *words = (const uint64_t *)(const void *)view->data;
  uint32_t key;
  memcpy(&key, view->key.hash, sizeof key);
  if (words[0] >> 32 != key) return false;
  for (uint64_t i = 1; i < view->bytes / 8; i++)
    if (words[i] != words[0]) return false;
  return true;
}

static neap__owner owner_of(worker *w) {
  uint32_t kind = random_below(&w->seed, 3);
  if (kind == 0) return fixture_local;
  return (neap__owner){
      .kind = kind == 1 ? NEAP_OWNER_REQUEST : NEAP_OWNER_TRANSFER, .id = random_below(&w->seed, 3), .tag = w->number};
}

static uint64_t size_of(uint32_t n) { return 64 + n % 3 * UNIT; }

static void expect(worker *w, bool holds, const char *what) {
  if (!holds && !w->fault) w->fault = what;
}

/* An owner may be dropped by another thread at any time: its leases are stale then, and only its. */
static bool look(worker *w, neap__lease lease, const neap__key *key, const neap__owner *owner, neap__view *view) {
  int rc = neap__l1_view(w->l1, lease, view);
  if (rc) {
    expect(w, rc == NEAP_ESTALE && owner->kind != NEAP_OWNER_LOCAL, "a lease of a local owner went stale");
    w->stale++;
    return false;
  }
  expect(w, memcmp(&view->key, key, sizeof *key) == 0, "a lease showed another key");
  return true;
}

static void write_batch(worker *w) {
  neap__key keys[BATCH];
  uint64_t bytes[BATCH];
  neap__lease leases[BATCH], pin = NEAP_NO_LEASE;
  int results[BATCH];
  /* Bytes are written here without a lock, so only by owners that nobody drops. */
  neap__owner owner = fixture_local;
  uint32_t count = 1 + random_below(&w->seed, BATCH), flags = random_below(&w->seed, 4);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t n = random_below(&w->seed, KEYS);
    keys[i] = fixture_key(n);
    bytes[i] = size_of(n);
  }
  if (neap__l1_reserve(w->l1, count, keys, bytes, flags, &owner, leases, results) != 0) return;
  for (uint32_t i = 0; i < count; i++) {
    neap__view view;
    if (results[i] || !look(w, leases[i], &keys[i], &owner, &view)) continue;
    uint64_t word = pattern(&keys[i], atomic_fetch_add(&versions, 1));
    for (uint64_t at = 0; at < view.bytes; at += 8) memcpy(view.data + at, &word, 8);
    if (random_below(&w->seed, 5) == 0) {
      neap__l1_abort(w->l1, leases[i]);
      continue;
    }
    bool pinned = random_below(&w->seed, 2);
    int rc = neap__l1_commit(w->l1, leases[i], NULL, &owner, 1, pinned ? &pin : NULL);
    expect(w, rc == 0 || rc == NEAP_ESTALE, "a commit failed");
    w->writes += rc == 0;
    if (rc || !pinned) continue;
    if (look(w, pin, &keys[i], &owner, &view)) expect(w, is_whole(&view), "a pinned object is not whole");
    expect(w, neap__l1_release(w->l1, pin, 1) == 0, "a pin could not be released");
  }
}

/* Reservations of outside owners are filled by nobody here; they race with being dropped. */
static void reserve_and_leave(worker *w) {
  neap__owner owner = owner_of(w);
  uint32_t n = KEYS + random_below(&w->seed, 4);
  neap__key key = fixture_key(n);
  uint64_t bytes = size_of(n);
  neap__lease lease;
  int result;
  if (neap__l1_reserve(w->l1, 1, &key, &bytes, 0, &owner, &lease, &result) != 0 || result) return;
  neap__lease found = neap__l1_staged(w->l1, &key, &owner);
  if (owner.kind == NEAP_OWNER_LOCAL || random_below(&w->seed, 2))
    neap__l1_abort(w->l1, lease);
  else if (found != NEAP_NO_LEASE && random_below(&w->seed, 2))
    neap__l1_commit(w->l1, found, NULL, NULL, 0, NULL);
}

static void read_batch(worker *w) {
  neap__key keys[BATCH];
  neap__lease leases[BATCH];
  uint64_t first[BATCH] = {0};
  neap__owner owner = owner_of(w);
  uint32_t readers = 1 + random_below(&w->seed, 3);
  for (uint32_t i = 0; i < BATCH; i++) keys[i] = fixture_key(random_below(&w->seed, KEYS));
  int held = neap__l1_acquire(w->l1, BATCH, keys, &owner, readers, random_below(&w->seed, 2), leases);
  if (held < 0) return;
  neap__l1_touch(w->l1, BATCH, keys, BATCH, w->number);
  bool local = owner.kind == NEAP_OWNER_LOCAL;
  for (int round = 0; round < 2; round++)
    for (uint32_t i = 0; i < BATCH; i++) {
      neap__view view;
      if (leases[i] == NEAP_NO_LEASE || !look(w, leases[i], &keys[i], &owner, &view)) continue;
      if (!local) continue; /* the bytes of a lease that is dropped meanwhile are not its any more */
      expect(w, is_whole(&view), "a leased object is not whole");
      uint64_t word;
      memcpy(&word, view.data, sizeof word);
      expect(w, round == 0 || word == first[i], "a leased object was overwritten");
      first[i] = word;
      w->reads++;
    }
  for (uint32_t i = 0; i < BATCH; i++) {
    if (leases[i] == NEAP_NO_LEASE) continue;
    if (!local && random_below(&w->seed, 8) == 0) continue; /* left for drop_owner */
    for (uint32_t r = 0; r < readers; r++) {
      int rc = neap__l1_release(w->l1, leases[i], 1);
      expect(w, rc == 0 || !local, "a lease of a local owner could not be released");
    }
  }
}

static bool look_at_object(void *ctx, uint32_t slot, const neap__key *key, uint64_t bytes) {
  worker *w = ctx;
  expect(w, slot < SLOTS && bytes >= 64 && key->tenant < TENANTS, "a listed object is nonsense");
  return random_below(&w->seed, 16) != 0;
}

static void disturb(worker *w) {
  neap__key key = fixture_key(random_below(&w->seed, KEYS));
  bool present;
  neap_error err;
  switch (random_below(&w->seed, 12)) {
    case 0:
    case 1:
    case 2:
    case 3: neap__l1_evict(w->l1, random_below(&w->seed, SLOTS)); break;
    case 4: neap__l1_evict_window(w->l1, 1 + random_below(&w->seed, 8) * UNIT); break;
    case 5: neap__l1_remove(w->l1, &key, random_below(&w->seed, 2)); break;
    case 6: neap__l1_clear(w->l1, random_below(&w->seed, 2)); break;
    case 7: neap__l1_drop_owner(w->l1, NEAP_OWNER_REQUEST, random_below(&w->seed, 3)); break;
    case 8: neap__l1_drop_owner(w->l1, NEAP_OWNER_TRANSFER, random_below(&w->seed, 3)); break;
    case 9: neap__l1_each_object(w->l1, look_at_object, w); break;
    case 10: expect(w, neap__l1_check(w->l1, &err) == 0, "check failed while others were at work"); break;
    default:
      neap__l1_contains(w->l1, 1, &key, &present);
      expect(w, fixture_stats(w->l1).used_bytes <= UNITS * UNIT, "more is used than there is");
  }
}

static void *work(void *arg) {
  worker *w = arg;
  const char *given = getenv("NEAP_STEPS");
  long steps = given ? strtol(given, NULL, 10) : 15000;
  for (long i = 0; i < steps && !w->fault; i++) {
    uint32_t dice = random_below(&w->seed, 100);
    if (dice < 35)
      write_batch(w);
    else if (dice < 80)
      read_batch(w);
    else if (dice < 88)
      reserve_and_leave(w);
    else
      disturb(w);
  }
  return NULL;
}

/* Counts what is resident by the events, which come under the locks of many shards at once. */
static void count_events(void *ctx, const neap_event *events, uint32_t count) {
  _Atomic int64_t *resident = ctx;
  for (uint32_t i = 0; i < count; i++) {
    if (events[i].type == NEAP_EV_INSERT) atomic_fetch_add(resident, 1);
    if (events[i].type == NEAP_EV_REMOVE) atomic_fetch_sub(resident, 1);
  }
}

static void whoever_holds_a_lease_sees_its_own_bytes_whatever_the_others_do(void **state) {
  (void)state;
  static _Atomic int64_t resident;
  worker workers[THREADS];
  uint64_t seed = random_seed("l1_threads"), reads = 0, writes = 0, stale = 0;
  neap__l1_config config = fixture_config(UNITS, SLOTS);
  config.emit = count_events;
  config.emit_ctx = &resident;
  neap__l1 *l1 = fixture_open(&config, NULL);
  for (uint32_t i = 0; i < THREADS; i++) {
    workers[i] = (worker){.l1 = l1, .number = i, .seed = random_next(&seed)};
    assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
  }
  for (uint32_t i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
  for (uint32_t i = 0; i < THREADS; i++) {
    if (workers[i].fault) fail_msg("%s", workers[i].fault);
    reads += workers[i].reads, writes += workers[i].writes, stale += workers[i].stale;
  }
  printf("%" PRIu64 " reads, %" PRIu64 " writes, %" PRIu64 " stale leases\n", reads, writes, stale);
  assert_true(reads > 0 && writes > 0);
  fixture_check(l1);
  for (uint32_t id = 0; id < 3; id++) {
    neap__l1_drop_owner(l1, NEAP_OWNER_REQUEST, id);
    neap__l1_drop_owner(l1, NEAP_OWNER_TRANSFER, id);
  }
  neap__l1_stats stats = fixture_stats(l1);
  assert_int_equal(stats.leases_used, 0);
  assert_int_equal(stats.staged, 0);
  assert_int_equal(stats.objects, resident);
  neap__l1_clear(l1, false);
  assert_int_equal(fixture_stats(l1).used_bytes, 0);
  assert_int_equal(fixture_stats(l1).largest_free_bytes, UNITS * UNIT);
  for (uint32_t i = 0; i < TENANTS; i++) assert_int_equal(neap__l1_tenant_bytes(l1, i), 0);
  fixture_check(l1);
  neap__l1_close(l1, false);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(whoever_holds_a_lease_sees_its_own_bytes_whatever_the_others_do),
  };
  return cmocka_run_group_tests_name("l1_threads", tests, NULL, NULL);
}
