/* SPDX-License-Identifier: MIT
 *
 * A restart finds what a killed process left. Children work on a named pool and are killed at random instants, or stop
 * at chosen ones; the parent opens the pool again and looks at every byte. NEAP_KILLS sets how many are killed. */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "l1/segment.h"
#include "unit/l1_fixture.h"

#define KEYS 48u
#define UNITS 96u

static const neap__owner worker = {.kind = NEAP_OWNER_TRANSFER, .id = 5, .tag = 50};
static const neap__owner request = {.kind = NEAP_OWNER_REQUEST, .id = 6};

static char pool_name[64];

/* Each pool of a test has a name of its own. */
static neap__l1_config named_config(void) {
  static int number;
  snprintf(pool_name, sizeof pool_name, "neap-takeover-%d-%d", (int)getpid(), number++);
  neap__l1_config config = fixture_config(UNITS, 64);
  config.shm_name = pool_name;
  return config;
}

static bool exists(const char *end) {
  char path[128];
  snprintf(path, sizeof path, "/%s%s", pool_name, end);
  int fd = shm_open(path, O_RDONLY, 0);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

/* What a test that failed has left. */
static int unlink_last(void **state) {
  char path[128];
  (void)state;
  snprintf(path, sizeof path, "/%s", pool_name);
  shm_unlink(path);
  snprintf(path, sizeof path, "/%s.meta", pool_name);
  shm_unlink(path);
  return 0;
}

static void finish(neap__l1 *l1) {
  fixture_check(l1);
  neap__l1_drop_owner(l1, worker.kind, worker.id);
  neap__l1_drop_owner(l1, request.kind, request.id);
  fixture_check(l1);
  assert_int_equal(fixture_stats(l1).leases_used, 0);
  neap__l1_clear(l1, true);
  assert_int_equal(fixture_stats(l1).used_bytes, 0);
  assert_int_equal(fixture_stats(l1).largest_free_bytes, UNITS * UNIT);
  fixture_check(l1);
  neap__l1_close(l1, false);
  assert_false(exists(""));
  assert_false(exists(".meta"));
}

/* Runs `work` in a child that then dies without a word. */
static void in_a_child(const neap__l1_config *config, void (*work)(neap__l1 *l1)) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    work(fixture_open(config, NULL));
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void expect_bytes(neap__l1 *l1, uint32_t n, uint64_t version) {
  neap__lease lease = fixture_get(l1, n, &fixture_local, 1);
  neap__view view;
  assert_true(lease != NEAP_NO_LEASE);
  assert_int_equal(neap__l1_view(l1, lease, &view), 0);
  assert_true(fixture_holds(&view, version));
  assert_int_equal(neap__l1_release(l1, lease, 1), 0);
}

/* --- what stays, what goes ------------------------------------------------------------------------------------ */

static void leave_one_of_each(neap__l1 *l1) {
  for (uint32_t n = 1; n <= 8; n++) fixture_put(l1, n, n * 1000, 0);
  fixture_put(l1, 9, UNIT, NEAP_RESERVE_TEMPORARY);
  fixture_put(l1, 10, UNIT, NEAP_RESERVE_TEMPORARY);
  fixture_get(l1, 1, &fixture_local, 1);
  fixture_get(l1, 2, &request, 2);
  fixture_get(l1, 3, &worker, 1);
  fixture_get(l1, 10, &worker, 1);
  fixture_fill_lease(l1, fixture_stage(l1, 20, UNIT, 0, &worker), 3);
  fixture_fill_lease(l1, fixture_stage(l1, 21, UNIT, 0, &fixture_local), 0);
  fixture_get(l1, 8, &worker, 1);
  fixture_get(l1, 7, &fixture_local, 1);
  for (uint32_t n = 7; n <= 8; n++) {
    neap__key key = fixture_key(n);
    assert_int_equal(neap__l1_remove(l1, &key, true), 0);
  }
  memset(neap__l1_annex(l1, &(size_t){0}), 0x5a, 100);
}

static void a_restart_keeps_objects_and_leases_of_outside_owners(void **state) {
  (void)state;
  neap__l1_config config = named_config();
  neap__l1_report report;
  in_a_child(&config, leave_one_of_each);
  neap__l1 *l1 = fixture_open(&config, &report);
  assert_true(report.took_over);
  assert_string_equal(report.removed, "");
  assert_int_equal(report.kept, 7); /* 1 .. 6 and the leased temporary one */
  assert_int_equal(report.damaged, 0);
  assert_int_equal(report.staged, 1);
  assert_int_equal(report.leases, 4);
  neap__l1_stats stats = fixture_stats(l1);
  assert_int_equal(stats.objects, 7);
  assert_int_equal(stats.temporary, 1);
  assert_int_equal(stats.leased, 3);
  assert_int_equal(stats.leases_used, 5);
  assert_int_equal(stats.staged_bytes, UNIT);
  assert_int_equal(((uint8_t *)neap__l1_annex(l1, &(size_t){0}))[99], 0x5a);
  fixture_check(l1);

  for (uint32_t n = 1; n <= 6; n++) expect_bytes(l1, n, 0);
  assert_false(fixture_has(l1, 7) || fixture_has(l1, 8) || fixture_has(l1, 9));
  assert_int_equal(neap__l1_evict(l1, fixture_slot(l1, 1)), UNIT); /* its lease was of the dead process */
  assert_int_equal(neap__l1_evict(l1, fixture_slot(l1, 2)), NEAP_EBUSY);
  assert_int_equal(neap__l1_evict(l1, fixture_slot(l1, 3)), NEAP_EBUSY);

  neap__key key = fixture_key(20);
  neap__lease staged = neap__l1_staged(l1, &key, &worker);
  assert_true(staged != NEAP_NO_LEASE);
  assert_int_equal(neap__l1_commit(l1, staged, NULL, NULL, 0, NULL), 0);
  expect_bytes(l1, 20, 3);
  key = fixture_key(21);
  assert_true(neap__l1_staged(l1, &key, &fixture_local) == NEAP_NO_LEASE);

  uint64_t before = fixture_stats(l1).used_bytes;
  assert_int_equal(neap__l1_drop_owner(l1, worker.kind, worker.id), 3);
  assert_int_equal(before - fixture_stats(l1).used_bytes, 3 * UNIT); /* the removed 8 and the temporary 10 */
  assert_false(fixture_has(l1, 10));
  finish(l1);
}

static void leave_cleared(neap__l1 *l1) {
  fixture_put(l1, 1, UNIT, 0);
  fixture_get(l1, 1, &request, 1);
  fixture_stage(l1, 2, UNIT, 0, &worker);
  fixture_stage(l1, 3, UNIT, 0, &fixture_local);
  assert_int_equal(neap__l1_clear(l1, true), 1);
}

static void what_was_cleared_by_force_stays_gone_but_its_bytes_are_not_given_away(void **state) {
  (void)state;
  neap__l1_config config = named_config();
  neap__l1_report report;
  in_a_child(&config, leave_cleared);
  neap__l1 *l1 = fixture_open(&config, &report);
  assert_int_equal(report.kept, 0);
  assert_int_equal(report.staged, 0); /* there is a writer at work, but what it writes cannot be committed */
  assert_int_equal(report.damaged, 0);
  assert_int_equal(fixture_stats(l1).used_bytes, 2 * UNIT);
  neap__key key = fixture_key(2);
  assert_true(neap__l1_staged(l1, &key, &worker) == NEAP_NO_LEASE);
  assert_int_equal(neap__l1_drop_owner(l1, worker.kind, worker.id), 1);
  assert_int_equal(neap__l1_drop_owner(l1, request.kind, request.id), 1);
  assert_int_equal(fixture_stats(l1).used_bytes, 0);
  finish(l1);
}

typedef struct order {
  uint32_t slots[8], count;
} order;

static void note_order(void *ctx, const neap_event *events, uint32_t count) {
  order *o = ctx;
  for (uint32_t i = 0; i < count && o->count < 8; i++) {
    assert_int_equal(events[i].type, NEAP_EV_INSERT);
    o->slots[o->count++] = events[i].slot;
  }
}

static void leave_recency(neap__l1 *l1) {
  for (uint32_t n = 0; n < 4; n++) fixture_put(l1, n, UNIT, 0);
  const neap__key keys[] = {fixture_key(2), fixture_key(0)};
  neap__l1_touch(l1, 2, keys, 0, 0);
}

static void what_was_taken_over_is_told_least_recent_first(void **state) {
  (void)state;
  neap__l1_config config = named_config();
  in_a_child(&config, leave_recency);
  order o = {.count = 0};
  config.emit = note_order;
  config.emit_ctx = &o;
  neap__l1 *l1 = fixture_open(&config, NULL);
  const uint32_t expected[] = {1, 3, 2, 0};
  assert_int_equal(o.count, 4);
  for (uint32_t i = 0; i < 4; i++) assert_int_equal(o.slots[i], fixture_slot(l1, expected[i]));
  o.count = 8;
  finish(l1);
}

static void only_one_server_has_a_name(void **state) {
  (void)state;
  neap__l1_config config = named_config();
  neap__l1 *l1 = fixture_open(&config, NULL), *second = NULL;
  neap_error err = {""};
  fixture_put(l1, 1, UNIT, 0);
  assert_int_equal(neap__l1_open(&config, &second, NULL, &err), NEAP_EBUSY);
  assert_non_null(strstr(err.text, pool_name));
  assert_null(second);
  expect_bytes(l1, 1, 0);
  neap__l1_close(l1, true);
  assert_true(exists("") && exists(".meta"));
  l1 = fixture_open(&config, NULL);
  expect_bytes(l1, 1, 0);
  finish(l1);
}

/* --- damage --------------------------------------------------------------------------------------------------- */

static void leave_three(neap__l1 *l1) {
  for (uint32_t n = 1; n <= 3; n++) fixture_put(l1, n, 2 * UNIT, 0);
  fixture_get(l1, 2, &worker, 1);
  fixture_get(l1, 3, &request, 1);
  fixture_stage(l1, 4, UNIT, 0, &worker);
}

static uint8_t *map_file(const char *end, size_t *bytes) {
  char path[128];
  struct stat st;
  snprintf(path, sizeof path, "/%s%s", pool_name, end);
  int fd = shm_open(path, O_RDWR, 0);
  assert_true(fd >= 0);
  assert_int_equal(fstat(fd, &st), 0);
  uint8_t *at = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  assert_true(at != MAP_FAILED);
  close(fd);
  *bytes = (size_t)st.st_size;
  return at;
}

static neap__slot *slot_of(uint8_t *meta, uint32_t n) {
  neap__meta_header *header = (neap__meta_header *)(void *)meta;
  neap__slot *slots = (neap__slot *)(void *)(meta + header->slots_at);
  neap__key key = fixture_key(n);
  for (uint32_t i = 0; i < header->slots_max; i++)
    if (memcmp(&slots[i].key, &key, sizeof key) == 0) return &slots[i];
  fail_msg("key %u is in no slot", n);
  return NULL;
}

/* What becomes of three objects (2 leased to a worker, 3 to a request) and a reservation when `damage` has been at
 * the files: `lost` says which objects are not there any more. */
static void survives(void (*damage)(uint8_t *meta, uint8_t *pool), uint32_t lost, const char *removed) {
  neap__l1_config config = named_config();
  neap__l1_report report;
  size_t meta_bytes, pool_bytes;
  in_a_child(&config, leave_three);
  uint8_t *meta = map_file(".meta", &meta_bytes), *pool = map_file("", &pool_bytes);
  damage(meta, pool);
  munmap(meta, meta_bytes);
  munmap(pool, pool_bytes);
  neap__l1 *l1 = fixture_open(&config, &report);
  fixture_check(l1);
  assert_int_equal(report.took_over, removed == NULL);
  if (removed && !strstr(report.removed, removed)) fail_msg("\"%s\" does not say %s", report.removed, removed);
  if (removed) lost = 15;
  neap__l1_stats stats = fixture_stats(l1);
  for (uint32_t n = 1; n <= 3; n++) {
    if (lost >> (n - 1) & 1)
      assert_false(fixture_has(l1, n));
    else
      expect_bytes(l1, n, 0);
  }
  neap__key key = fixture_key(4);
  assert_int_equal(neap__l1_staged(l1, &key, &worker) == NEAP_NO_LEASE, (lost & 8) != 0);
  if (!removed) assert_int_equal(report.damaged, (uint32_t)__builtin_popcount(lost));
  assert_int_equal(report.leases, 2u - (lost >> 1 & 1) - (lost >> 2 & 1));
  assert_int_equal(report.staged, (lost & 8) == 0);
  assert_int_equal(stats.leases_used, report.leases + report.staged);
  /* The places of the lost are as good as new, whatever leases were on them. */
  neap__l1_drop_owner(l1, worker.kind, worker.id);
  neap__l1_drop_owner(l1, request.kind, request.id);
  for (uint32_t n = 10; n < 50; n++) {
    fixture_put(l1, n, UNIT, 0);
    assert_int_equal(neap__l1_evict(l1, fixture_slot(l1, n)), UNIT);
  }
  finish(l1);
}

static void damage_nothing(uint8_t *meta, uint8_t *pool) { (void)meta, (void)pool; }
static void damage_magic(uint8_t *meta, uint8_t *pool) { (void)pool, meta[3] ^= 1; }
static void damage_layout(uint8_t *meta, uint8_t *pool) { (void)pool, meta[50] ^= 1; }
static void damage_header_seal(uint8_t *meta, uint8_t *pool) {
  (void)pool, meta[offsetof(neap__meta_header, seal)] ^= 0x80;
}
static void damage_ready(uint8_t *meta, uint8_t *pool) { (void)pool, meta[offsetof(neap__meta_header, ready)] = 0; }
static void damage_slots_high(uint8_t *meta, uint8_t *pool) {
  (void)pool, ((neap__meta_header *)(void *)meta)->slots_high = 0x7fffffff;
}
static void damage_leases_high(uint8_t *meta, uint8_t *pool) {
  (void)pool;
  for (uint32_t i = 0; i < NEAP_SHARDS; i++) ((neap__meta_header *)(void *)meta)->leases_high[i] = UINT32_MAX;
}
static void damage_names(uint8_t *meta, uint8_t *pool) {
  (void)pool, meta[((neap__meta_header *)(void *)meta)->names_at] ^= 1;
}
static void damage_page_of_1(uint8_t *meta, uint8_t *pool) { memset(pool + slot_of(meta, 1)->offset + UNIT, 0, UNIT); }
static void damage_page_of_2(uint8_t *meta, uint8_t *pool) { pool[slot_of(meta, 2)->offset] ^= 1; }
static void damage_key_of_1(uint8_t *meta, uint8_t *pool) { (void)pool, slot_of(meta, 1)->key.rank ^= 1; }
static void damage_offset_of_2(uint8_t *meta, uint8_t *pool) { (void)pool, slot_of(meta, 2)->offset += UNIT; }
static void damage_bytes_of_3(uint8_t *meta, uint8_t *pool) { (void)pool, slot_of(meta, 3)->bytes = UINT64_MAX; }
static void damage_reservation(uint8_t *meta, uint8_t *pool) { (void)pool, slot_of(meta, 4)->seal ^= 1; }
static void damage_state_of_1(uint8_t *meta, uint8_t *pool) { (void)pool, slot_of(meta, 1)->word ^= 0xf0; }
static void seal_slot(neap__slot *s) {
  s->seal = neap__crc32c(neap__crc32c(0, &s->key, sizeof s->key), &s->offset, 2 * sizeof s->offset);
}
static void damage_tenant_of_3(uint8_t *meta, uint8_t *pool) {
  (void)pool;
  neap__slot *slot = slot_of(meta, 3);
  slot->key.tenant = TENANTS;
  seal_slot(slot);
}
static void damage_place_of_1_twice(uint8_t *meta, uint8_t *pool) {
  neap__slot *one = slot_of(meta, 1), *two = slot_of(meta, 2);
  uint8_t *from = pool + NEAP_MIN(one->offset, two->offset), *to = pool + NEAP_MAX(one->offset, two->offset);
  memcpy(to, from, 2 * UNIT);
  (one->offset < two->offset ? two : one)->offset = NEAP_MIN(one->offset, two->offset);
  two->fingerprint = one->fingerprint = (one->offset < two->offset ? two : one)->fingerprint;
  seal_slot(one);
  seal_slot(two);
}

static void damage_is_found_said_and_costs_only_what_it_hit(void **state) {
  (void)state;
  survives(damage_nothing, 0, NULL);
  survives(damage_magic, 0, "header was damaged");
  survives(damage_layout, 0, "header was damaged");
  survives(damage_header_seal, 0, "header was damaged");
  survives(damage_ready, 0, "unfinished");
  survives(damage_slots_high, 0, "header was damaged");
  survives(damage_leases_high, 0, "header was damaged");
  survives(damage_names, 0, "names were damaged");
  survives(damage_page_of_1, 1, NULL);
  survives(damage_page_of_2, 2, NULL);
  survives(damage_key_of_1, 1, NULL);
  survives(damage_offset_of_2, 2, NULL);
  survives(damage_bytes_of_3, 4, NULL);
  survives(damage_reservation, 8, NULL);
  survives(damage_state_of_1, 1, NULL);
  survives(damage_tenant_of_3, 4, NULL);
}

static void of_two_objects_in_one_place_only_one_is_kept(void **state) {
  (void)state;
  neap__l1_config config = named_config();
  neap__l1_report report;
  size_t meta_bytes, pool_bytes;
  in_a_child(&config, leave_three);
  uint8_t *meta = map_file(".meta", &meta_bytes), *pool = map_file("", &pool_bytes);
  damage_place_of_1_twice(meta, pool);
  munmap(meta, meta_bytes);
  munmap(pool, pool_bytes);
  neap__l1 *l1 = fixture_open(&config, &report);
  fixture_check(l1);
  assert_in_range(report.damaged, 1, 2);
  assert_int_equal(fixture_has(l1, 1) + fixture_has(l1, 2) + 1, report.kept);
  expect_bytes(l1, 3, 0);
  finish(l1);
}

static void a_pool_of_another_shape_is_replaced_and_the_reason_is_said(void **state) {
  (void)state;
  const struct {
    uint32_t units, slots, tokens, align;
    const char *why;
  } other[] = {{UNITS + 1, 64, 16, UNIT, "another size"},
               {UNITS, 65, 16, UNIT, "another size"},
               {UNITS, 64, 32, UNIT, "layout"},
               {UNITS, 64, 16, 2 * UNIT, "layout"}};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(other); i++) {
    neap__l1_config config = named_config();
    neap__l1_report report;
    in_a_child(&config, leave_three);
    config.pool_bytes = (uint64_t)other[i].units * UNIT;
    config.slots_max = other[i].slots;
    config.chunk_tokens = other[i].tokens;
    config.align_bytes = other[i].align;
    neap__l1 *l1 = fixture_open(&config, &report);
    assert_false(report.took_over);
    if (!strstr(report.removed, other[i].why)) fail_msg("\"%s\" does not say %s", report.removed, other[i].why);
    assert_int_equal(neap__l1_objects(l1), 0);
    assert_int_equal(fixture_stats(l1).leases_used, 0);
    fixture_put(l1, 1, UNIT, 0);
    neap__l1_close(l1, false);
    assert_false(exists("") || exists(".meta"));
  }
}

static void half_of_a_pair_of_files_is_not_taken_over(void **state) {
  (void)state;
  for (int which = 0; which < 2; which++) {
    neap__l1_config config = named_config();
    neap__l1_report report;
    char path[128];
    in_a_child(&config, leave_three);
    snprintf(path, sizeof path, "/%s%s", pool_name, which ? ".meta" : "");
    assert_int_equal(shm_unlink(path), 0);
    neap__l1 *l1 = fixture_open(&config, &report);
    assert_false(report.took_over);
    assert_non_null(strstr(report.removed, which ? "no metadata" : "pool was gone"));
    finish(l1);
  }
}

/* --- no memory ------------------------------------------------------------------------------------------------ */

static void opening_without_memory_is_an_error_and_costs_nothing(void **state) {
  (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  skip(); /* sanitizers need the address space that this test takes away */
#endif
  neap__l1_config config = named_config();
  config.slots_max = 1 << 16; /* tables worth refusing */
  in_a_child(&config, leave_three);
  for (uint64_t spare = 0; spare < 64; spare++) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
      long pages = 0;
      FILE *statm = fopen("/proc/self/statm", "r");
      if (!statm || fscanf(statm, "%ld", &pages) != 1) _exit(9);
      fclose(statm);
      struct rlimit limit = {.rlim_cur = (rlim_t)pages * 4096 + spare * 1048576, .rlim_max = RLIM_INFINITY};
      if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(9);
      neap__l1 *l1 = NULL;
      neap_error err = {""};
      int rc = neap__l1_open(&config, &l1, NULL, &err);
      if (rc == 0) neap__l1_close(l1, true);
      _exit(rc == 0 || (rc == NEAP_ENOMEM && err.text[0]) ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail_msg("%d MiB: status %x", (int)spare, (unsigned)status);
  }
  neap__l1_report report;
  neap__l1 *l1 = fixture_open(&config, &report);
  assert_true(report.took_over);
  assert_int_equal(report.kept, 3);
  finish(l1);
}

/* --- kill -9 -------------------------------------------------------------------------------------------------- */

/* What a child says of each key in memory shared with its parent, before and after each step. */
typedef struct promise {
  _Atomic uint32_t committed; /* version that must be there, 0: none is promised */
  _Atomic uint32_t trying;    /* version that may be there as well, 0: none */
  _Atomic uint32_t may_go;    /* it is being evicted, or was */
  _Atomic uint32_t staged;    /* reserved by the worker, filled with this version */
} promise;

typedef struct notes {
  promise keys[KEYS];
  _Atomic uint64_t steps;
} notes;

static void write_one(neap__l1 *l1, promise *p, uint32_t n, uint32_t version) {
  neap__key key = fixture_key(n);
  uint64_t bytes = 1 + (uint64_t)n * 331 % (3 * UNIT);
  neap__lease lease;
  int result;
  atomic_store(&p->staged, 0);
  if (neap__l1_reserve(l1, 1, &key, &bytes, NEAP_RESERVE_EXCLUSIVE, &worker, &lease, &result) != 0 || result) return;
  fixture_fill_lease(l1, lease, version);
  atomic_store(&p->staged, version);
  if (version % 4 == 0) return;   /* is left to somebody else */
  atomic_store(&p->committed, 0); /* whoever may reserve a key may not find it */
  atomic_store(&p->may_go, 0);
  atomic_store(&p->trying, version);
  neap__l1_commit(l1, lease, NULL, version % 3 ? NULL : &request, 2, version % 3 ? NULL : &lease);
  atomic_store(&p->committed, version);
  if (version % 3 == 0 && version % 2) neap__l1_release(l1, lease, UINT32_MAX);
}

static void work_for_ever(neap__l1 *l1, notes *shared, uint64_t seed) {
  for (uint32_t version = 1;; version++) {
    uint32_t n = random_below(&seed, KEYS);
    promise *p = &shared->keys[n];
    neap__key key = fixture_key(n);
    atomic_fetch_add(&shared->steps, 1);
    switch (random_below(&seed, 16)) {
      case 3:
        atomic_store(&p->may_go, 1);
        if (neap__l1_remove(l1, &key, random_below(&seed, 2)) == 0) atomic_store(&p->committed, 0);
        break;
      case 4: {
        neap__lease lease = fixture_get(l1, n, random_below(&seed, 2) ? &worker : &fixture_local, 3);
        neap__l1_touch(l1, 1, &key, 0, 0);
        if (random_below(&seed, 4)) neap__l1_release(l1, lease, UINT32_MAX);
        break;
      }
      case 5: {
        neap__lease lease = neap__l1_staged(l1, &key, &worker);
        atomic_store(&p->staged, 0);
        neap__l1_abort(l1, lease);
        break;
      }
      case 6:
        if (random_below(&seed, 16) == 0) neap__l1_drop_owner(l1, worker.kind, worker.id);
        if (random_below(&seed, 16) == 0) neap__l1_drop_owner(l1, request.kind, request.id);
        break;
      case 7:
        if (random_below(&seed, 64)) break;
        for (uint32_t i = 0; i < KEYS; i++) atomic_store(&shared->keys[i].may_go, 1);
        neap__l1_clear(l1, random_below(&seed, 2));
        break;
      default: write_one(l1, p, n, version);
    }
  }
}

/* One life: the pool as the last life left it is checked, then a child works on it until it is killed. */
static void one_life(const neap__l1_config *config, notes *shared, uint64_t *seed) {
  uint64_t begin = atomic_load(&shared->steps), child_seed = random_next(seed);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) work_for_ever(fixture_open(config, NULL), shared, child_seed);
  uint64_t target = begin + 1 + random_below(seed, 3000);
  while (atomic_load(&shared->steps) < target)
    if (waitpid(pid, NULL, WNOHANG) != 0) fail_msg("the child ended by itself");
  kill(pid, SIGKILL);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void compare(neap__l1 *l1, notes *shared) {
  for (uint32_t n = 0; n < KEYS; n++) {
    promise *p = &shared->keys[n];
    uint32_t committed = atomic_load(&p->committed), trying = atomic_load(&p->trying), now = 0;
    neap__lease lease = fixture_get(l1, n, &fixture_local, 1);
    if (lease == NEAP_NO_LEASE && committed && !atomic_load(&p->may_go)) fail_msg("key %u was lost", n);
    neap__view view;
    if (lease != NEAP_NO_LEASE) {
      assert_int_equal(neap__l1_view(l1, lease, &view), 0);
      now = fixture_holds(&view, committed) ? committed : fixture_holds(&view, trying) ? trying : 0;
      if (!now) fail_msg("key %u has bytes of another key or time", n);
      assert_int_equal(neap__l1_release(l1, lease, 1), 0);
    }
    atomic_store(&p->committed, now);
    atomic_store(&p->trying, now);
    neap__key key = fixture_key(n);
    uint32_t filled = atomic_load(&p->staged);
    if ((lease = neap__l1_staged(l1, &key, &worker)) == NEAP_NO_LEASE) continue;
    assert_int_equal(neap__l1_view(l1, lease, &view), 0);
    if (filled) assert_true(fixture_holds(&view, filled));
  }
}

static void a_kill_at_any_instant_loses_no_committed_object(void **state) {
  (void)state;
  neap__l1_config config = named_config();
  const char *given = getenv("NEAP_KILLS");
  uint64_t seed = random_seed("l1_takeover");
  long kills = given ? strtol(given, NULL, 10) : 60;
  notes *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(shared != MAP_FAILED);
  uint32_t kept = 0, staged = 0, leases = 0;
  for (long i = 0; i < kills; i++) {
    neap__l1_report report;
    one_life(&config, shared, &seed);
    neap__l1 *l1 = fixture_open(&config, &report);
    fixture_check(l1);
    assert_true(report.took_over);
    assert_int_equal(report.damaged, 0);
    assert_int_equal(report.kept, neap__l1_objects(l1));
    assert_int_equal(fixture_stats(l1).leases_used >= report.staged + report.leases, true);
    kept += report.kept, staged += report.staged, leases += report.leases;
    compare(l1, shared);
    fixture_check(l1);
    if (i + 1 == kills)
      finish(l1);
    else
      neap__l1_close(l1, true);
  }
  printf("%ld kills: kept %u objects, %u reservations, %u leases\n", kills, kept, staged, leases);
  munmap(shared, sizeof *shared);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(a_restart_keeps_objects_and_leases_of_outside_owners, unlink_last),
      cmocka_unit_test_teardown(what_was_cleared_by_force_stays_gone_but_its_bytes_are_not_given_away, unlink_last),
      cmocka_unit_test_teardown(what_was_taken_over_is_told_least_recent_first, unlink_last),
      cmocka_unit_test_teardown(only_one_server_has_a_name, unlink_last),
      cmocka_unit_test_teardown(damage_is_found_said_and_costs_only_what_it_hit, unlink_last),
      cmocka_unit_test_teardown(of_two_objects_in_one_place_only_one_is_kept, unlink_last),
      cmocka_unit_test_teardown(a_pool_of_another_shape_is_replaced_and_the_reason_is_said, unlink_last),
      cmocka_unit_test_teardown(half_of_a_pair_of_files_is_not_taken_over, unlink_last),
      cmocka_unit_test_teardown(opening_without_memory_is_an_error_and_costs_nothing, unlink_last),
      cmocka_unit_test_teardown(a_kill_at_any_instant_loses_no_committed_object, unlink_last),
  };
  return cmocka_run_group_tests_name("l1_takeover", tests, NULL, NULL);
}
