/* SPDX-License-Identifier: MIT
 *
 * The built-in policies against naive models of themselves: random events, every answer compared. The models keep no
 * lists, only a time stamp per slot, and search. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/base.h"
#include "policies/builtin.h"
#include "policies/isolated.h"
#include "support/policies.h"

#define SLOTS 24u
#define STEPS 40000

static const uint32_t tenants[] = {0, 5, 65536}; /* two are equal in their low 16 bits */

static uint64_t seed;

static uint32_t rnd(uint32_t below) { /* xorshift64*, Vigna 2016 */
  seed ^= seed >> 12;
  seed ^= seed << 25;
  seed ^= seed >> 27;
  return (uint32_t)((seed * 0x2545f4914f6cdd1dull) >> 33) % below;
}

static int seed_setup(void **state) {
  (void)state;
  const char *given = getenv("NEAP_SEED");
  seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1;
  if (seed == 0) seed = 1;
  print_message("NEAP_SEED=%llu\n", (unsigned long long)seed);
  return 0;
}

/* --- a policy without a stream around it ---------------------------------------------------------------------- */

typedef struct bench {
  const neap_policy *policy;
  void *self;
} bench;

static neap_chunk rows[SLOTS];   /* of the bench that is open */
static uint32_t next_use[SLOTS]; /* likewise */
static neap_policy_context context;

static bench bench_of(const neap_policy *policy, const char *params) {
  neap_error err = {""};
  bench b = {.policy = policy};
  memset(rows, 0, sizeof(rows));
  context = (neap_policy_context){.size = sizeof(context),
                                  .slots = SLOTS,
                                  .capacity = SLOTS,
                                  .seed = 1,
                                  .chunk = rows,
                                  .next = next_use,
                                  .params = params};
  assert_int_equal(b.policy->create(b.policy, &context, &b.self, &err), 0);
  return b;
}

static bench bench_open(const char *text) {
  static neap__policy_spec spec; /* as long as any bench */
  spec = spec_of(text);
  return bench_of(spec.policy, spec.params);
}

static void bench_close(bench *b) { b->policy->destroy(b->self); }

static void tell(bench *b, neap_event_type type, uint32_t slot) {
  const neap_event ev = {.type = (uint8_t)type, .slot = slot, .detail = NEAP_REMOVE_EVICT, .h1 = slot};
  b->policy->on_events(b->self, &ev, 1, NULL);
}

static void expect_victims(bench *b, uint32_t scope, uint32_t max, const uint32_t *slots, uint32_t count) {
  uint32_t out[SLOTS];
  assert_int_equal(b->policy->victims(b->self, scope, out, max, NULL), count);
  for (uint32_t i = 0; i < count; i++) assert_int_equal(out[i], slots[i]);
}

#define VICTIMS(b, scope, max, ...)                              \
  expect_victims(b, scope, max, (const uint32_t[]){__VA_ARGS__}, \
                 (uint32_t)(sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)))
#define NO_VICTIMS(b, scope) expect_victims(b, scope, SLOTS, NULL, 0)

/* --- models --------------------------------------------------------------------------------------------------- */

enum { ABSENT, PRESENT, PROPOSED };

typedef struct model_entry {
  uint64_t key;
  uint64_t stamp; /* larger is more recent */
  uint32_t tenant;
  int state;
  bool again; /* ARC: in T2 or B2 */
  uint32_t uses;
} model_entry;

typedef enum model_kind { OF_LRU, OF_FIFO, OF_LFU, OF_ARC } model_kind;

typedef struct model {
  model_kind kind;
  uint64_t clock;
  double p;
  uint32_t capacity;
  model_entry slots[SLOTS];
  model_entry ghosts[4 * SLOTS]; /* state PRESENT: in use */
} model;

static uint32_t count_of(const model_entry *entries, uint32_t n, bool again) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < n; i++) count += entries[i].state == PRESENT && entries[i].again == again;
  return count;
}

/* Uses are 0 where they do not matter. */
static bool before(const model_entry *a, const model_entry *b) {
  return a->uses < b->uses || (a->uses == b->uses && a->stamp < b->stamp);
}

static int oldest_of(const model_entry *entries, uint32_t n, bool again, uint32_t scope) {
  int best = -1;
  for (uint32_t i = 0; i < n; i++) {
    const model_entry *e = &entries[i];
    if (e->state != PRESENT || e->again != again || (scope != NEAP_SCOPE_ALL && e->tenant != scope)) continue;
    if (best < 0 || before(e, &entries[best])) best = (int)i;
  }
  return best;
}

static uint32_t model_residents(const model *m) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < SLOTS; i++) count += m->slots[i].state != ABSENT;
  return count;
}

#define B(m, again) count_of((m)->ghosts, NEAP_ARRAY_LEN((m)->ghosts), again)
#define T(m, again) count_of((m)->slots, SLOTS, again)

static void model_drop_oldest_ghost(model *m, bool again) {
  m->ghosts[oldest_of(m->ghosts, NEAP_ARRAY_LEN(m->ghosts), again, NEAP_SCOPE_ALL)].state = ABSENT;
}

static void model_trim(model *m) {
  while (B(m, false) > 0 && T(m, false) + B(m, false) > m->capacity) model_drop_oldest_ghost(m, false);
  while (B(m, false) + B(m, true) > 0 && model_residents(m) + B(m, false) + B(m, true) > 2 * m->capacity)
    model_drop_oldest_ghost(m, B(m, true) > 0);
}

/* True if the key came back from a ghost list; the target has moved then. */
static bool model_returns(model *m, const neap_event *ev, uint64_t key) {
  for (uint32_t i = 0; i < NEAP_ARRAY_LEN(m->ghosts); i++) {
    model_entry *g = &m->ghosts[i];
    if (g->state != PRESENT || g->key != key || g->tenant != ev->tenant) continue;
    double b1 = B(m, false), b2 = B(m, true);
    if (!g->again) {
      m->p += b1 >= b2 ? 1 : b2 / b1;
      if (m->p > m->capacity) m->p = m->capacity;
    } else {
      m->p -= b2 >= b1 ? 1 : b1 / b2;
      if (m->p < 0) m->p = 0;
    }
    g->state = ABSENT;
    return true;
  }
  return false;
}

static void model_event(model *m, const neap_event *ev) {
  model_entry *e = &m->slots[ev->slot];
  uint64_t key = (uint64_t)ev->h1 << 32 | ev->h2;
  bool was = e->state != ABSENT;
  switch (ev->type) {
    case NEAP_EV_INSERT:
      *e = (model_entry){.key = key, .stamp = ++m->clock, .tenant = ev->tenant, .state = PRESENT};
      e->uses = m->kind == OF_LFU;
      if (m->kind != OF_ARC) break;
      if (model_residents(m) > m->capacity) m->capacity = model_residents(m);
      e->again = model_returns(m, ev, key);
      model_trim(m);
      break;
    case NEAP_EV_HIT:
      if (e->state == PRESENT && m->kind != OF_FIFO) e->stamp = ++m->clock;
      e->again = m->kind == OF_ARC && was;
      e->uses += m->kind == OF_LFU;
      break;
    case NEAP_EV_KEEP:
      if (!was) break;
      e->stamp = ++m->clock;
      e->state = PRESENT;
      break;
    case NEAP_EV_REMOVE:
      e->state = ABSENT;
      if (m->kind != OF_ARC || !was) break;
      for (uint32_t i = 0; i < NEAP_ARRAY_LEN(m->ghosts) && ev->detail == NEAP_REMOVE_EVICT; i++) {
        if (m->ghosts[i].state != ABSENT) continue;
        m->ghosts[i] =
            (model_entry){.key = key, .stamp = ++m->clock, .tenant = ev->tenant, .state = PRESENT, .again = e->again};
        if (B(m, false) + B(m, true) > SLOTS) model_drop_oldest_ghost(m, B(m, true) - e->again > 0);
        break;
      }
      model_trim(m);
      break;
    default: break;
  }
}

static uint32_t model_victims(model *m, uint32_t scope, uint32_t *out, uint32_t max) {
  uint32_t got = 0;
  while (got < max) {
    uint32_t t1 = T(m, false);
    bool again = m->kind == OF_ARC && !(t1 >= 1 && t1 >= m->p);
    int slot = oldest_of(m->slots, SLOTS, again, scope);
    if (slot < 0) slot = oldest_of(m->slots, SLOTS, !again, scope);
    if (slot < 0) break;
    m->slots[slot].state = PROPOSED;
    out[got++] = (uint32_t)slot;
  }
  return got;
}

static uint64_t key_of(const model *m, uint32_t slot) { return m->slots[slot].key; }

static bool key_is_resident(const model *m, uint64_t key) {
  for (uint32_t i = 0; i < SLOTS; i++)
    if (m->slots[i].state != ABSENT && m->slots[i].key == key) return true;
  return false;
}

/* A random thing that may happen to a slot; false if nothing may. */
static bool random_event(const model *m, neap_event *ev) {
  uint32_t slot = rnd(SLOTS);
  const model_entry *e = &m->slots[slot];
  *ev = (neap_event){.slot = slot, .type = NEAP_EV_HIT, .tenant = e->tenant};
  if (e->state == ABSENT) {
    uint64_t key = (uint64_t)rnd(3 * SLOTS) << 32 | 7;
    if (key_is_resident(m, key)) return false;
    ev->type = rnd(40) == 0 ? NEAP_EV_KEEP : NEAP_EV_INSERT;
    ev->tenant = tenants[rnd(NEAP_ARRAY_LEN(tenants))];
    ev->h1 = (uint32_t)(key >> 32);
    ev->h2 = (uint32_t)key;
    return true;
  }
  uint32_t dice = rnd(100);
  if (dice < 3 || (e->state == PROPOSED && dice < 60)) {
    ev->type = NEAP_EV_REMOVE;
    ev->detail = (uint8_t)(e->state == PROPOSED || dice == 0 ? NEAP_REMOVE_EVICT : NEAP_REMOVE_DELETE);
  } else if (dice < 5 || (e->state == PROPOSED && dice < 90)) {
    ev->type = NEAP_EV_KEEP;
  }
  ev->h1 = (uint32_t)(key_of(m, slot) >> 32);
  ev->h2 = (uint32_t)key_of(m, slot);
  return true;
}

static void compare_with_model(bench b, model_kind kind) {
  static const uint32_t scopes[] = {NEAP_SCOPE_ALL, NEAP_SCOPE_ALL, 0, 65536, 5, 77};
  model m = {.kind = kind};
  uint32_t named = 0;
  for (int step = 0; step < STEPS; step++) {
    neap_event ev;
    if (rnd(12) != 0) {
      if (!random_event(&m, &ev)) continue;
      b.policy->on_events(b.self, &ev, 1, NULL);
      model_event(&m, &ev);
      continue;
    }
    uint32_t scope = scopes[rnd(NEAP_ARRAY_LEN(scopes))];
    uint32_t max = rnd(20) == 0 ? SLOTS : rnd(5);
    uint32_t expected[SLOTS], got[SLOTS];
    uint32_t count = model_victims(&m, scope, expected, max);
    assert_int_equal(b.policy->victims(b.self, scope, got, max, NULL), count);
    if (count > 0) assert_memory_equal(got, expected, count * sizeof(got[0]));
    named += count;
  }
  assert_true(named > STEPS / 100); /* the comparison was of something */
  bench_close(&b);
}

static void lru_answers_like_its_model(void **state) {
  (void)state;
  compare_with_model(bench_open("LRU"), OF_LRU);
}

static void isolated_lru_answers_like_its_model(void **state) {
  (void)state;
  compare_with_model(bench_open("IsolatedLRU"), OF_LRU);
}

/* Three tenants, two of which share an instance. */
static void isolated_lru_by_way_of_instances_answers_like_its_model(void **state) {
  (void)state;
  static neap__isolated isolated;
  neap__isolated_init(&isolated, &neap__policy_lru);
  compare_with_model(bench_of(&isolated.table, ""), OF_LRU);
}

static void fifo_answers_like_its_model(void **state) {
  (void)state;
  compare_with_model(bench_open("FIFO"), OF_FIFO);
}

static void lfu_answers_like_its_model(void **state) {
  (void)state;
  compare_with_model(bench_open("LFU"), OF_LFU);
}

static void arc_answers_like_its_model(void **state) {
  (void)state;
  compare_with_model(bench_open("ARC"), OF_ARC);
}

/* --- in words ------------------------------------------------------------------------------------------------- */

static const char *const evicting[] = {"LRU", "IsolatedLRU", "ARC"};

#define FOR_EACH_EVICTING(b)                               \
  for (size_t n_ = 0; n_ < NEAP_ARRAY_LEN(evicting); n_++) \
    for (bench b = bench_open(evicting[n_]); b.policy != NULL; bench_close(&b), b.policy = NULL)

/* LMCache: [k0, k1, k2] created in one call are evicted k2, k1, k0; events come tail first. */
static void the_tail_of_a_request_goes_before_its_head(void **state) {
  (void)state;
  FOR_EACH_EVICTING(b) {
    for (uint32_t k = 3; k-- > 0;) tell(&b, NEAP_EV_INSERT, k);
    VICTIMS(&b, NEAP_SCOPE_ALL, 3, 2, 1, 0);
  }
}

static void a_touched_slot_goes_last(void **state) {
  (void)state;
  FOR_EACH_EVICTING(b) {
    for (uint32_t k = 3; k-- > 0;) tell(&b, NEAP_EV_INSERT, k);
    tell(&b, NEAP_EV_HIT, 2);
    VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 1, 0, 2);
  }
}

static void a_proposed_slot_is_not_proposed_again_before_its_answer(void **state) {
  (void)state;
  FOR_EACH_EVICTING(b) {
    for (uint32_t k = 0; k < 3; k++) tell(&b, NEAP_EV_INSERT, k);
    VICTIMS(&b, NEAP_SCOPE_ALL, 2, 0, 1);
    VICTIMS(&b, NEAP_SCOPE_ALL, 2, 2);
    NO_VICTIMS(&b, NEAP_SCOPE_ALL);
    tell(&b, NEAP_EV_REMOVE, 0);
    NO_VICTIMS(&b, NEAP_SCOPE_ALL);
    tell(&b, NEAP_EV_KEEP, 1);
    VICTIMS(&b, NEAP_SCOPE_ALL, 2, 1);
  }
}

static void a_kept_slot_is_out_of_the_way_of_the_others(void **state) {
  (void)state;
  FOR_EACH_EVICTING(b) {
    for (uint32_t k = 0; k < 4; k++) tell(&b, NEAP_EV_INSERT, k);
    VICTIMS(&b, NEAP_SCOPE_ALL, 1, 0);
    tell(&b, NEAP_EV_KEEP, 0);
    VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 1, 2, 3, 0);
  }
}

static void events_of_slots_that_are_not_there_change_nothing(void **state) {
  (void)state;
  FOR_EACH_EVICTING(b) {
    tell(&b, NEAP_EV_HIT, 3);
    tell(&b, NEAP_EV_KEEP, 3);
    tell(&b, NEAP_EV_REMOVE, 3);
    NO_VICTIMS(&b, NEAP_SCOPE_ALL);
    tell(&b, NEAP_EV_INSERT, SLOTS - 1);
    VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, SLOTS - 1);
  }
}

static void a_tenant_answers_only_for_its_own(void **state) {
  (void)state;
  FOR_EACH_EVICTING(b) {
    const neap_event events[] = {{.slot = 0, .type = NEAP_EV_INSERT, .tenant = 1},
                                 {.slot = 1, .type = NEAP_EV_INSERT, .tenant = 2, .h1 = 1},
                                 {.slot = 2, .type = NEAP_EV_INSERT, .tenant = 1, .h1 = 2},
                                 {.slot = 3, .type = NEAP_EV_INSERT, .tenant = 70000, .h1 = 3}};
    b.policy->on_events(b.self, events, 4, NULL);
    VICTIMS(&b, 1, SLOTS, 0, 2);
    VICTIMS(&b, 70000, SLOTS, 3);
    NO_VICTIMS(&b, 70000 % 65536);
    VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 1);
  }
}

static void arc_protects_what_was_used_again_from_a_scan(void **state) {
  (void)state;
  bench b = bench_open("ARC");
  for (uint32_t k = 0; k < 6; k++) tell(&b, NEAP_EV_INSERT, k);
  tell(&b, NEAP_EV_HIT, 0);
  tell(&b, NEAP_EV_HIT, 1);
  VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 2, 3, 4, 5, 0, 1);
  bench_close(&b);
}

/* Two ranks of one chunk share a hash: both leave a ghost, both returns count. */
static void arc_keeps_a_ghost_for_each_of_two_objects_with_one_hash(void **state) {
  (void)state;
  bench b = bench_open("ARC");
  neap_event ev = {.type = NEAP_EV_INSERT, .h1 = 9, .h2 = 9};
  for (ev.slot = 0; ev.slot < 2; ev.slot++) b.policy->on_events(b.self, &ev, 1, NULL);
  for (uint32_t k = 2; k < 6; k++) tell(&b, NEAP_EV_INSERT, k);
  VICTIMS(&b, NEAP_SCOPE_ALL, 2, 0, 1);
  ev.type = NEAP_EV_REMOVE;
  ev.detail = NEAP_REMOVE_EVICT;
  for (ev.slot = 0; ev.slot < 2; ev.slot++) b.policy->on_events(b.self, &ev, 1, NULL);
  ev.type = NEAP_EV_INSERT;
  for (ev.slot = 0; ev.slot < 2; ev.slot++) b.policy->on_events(b.self, &ev, 1, NULL);
  ev.slot = 7; /* a third rank is new */
  b.policy->on_events(b.self, &ev, 1, NULL);
  VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 2, 3, 4, 5, 0, 1, 7); /* the target of T1 is 2 */
  bench_close(&b);
}

/* --- the others in words -------------------------------------------------------------------------------------- */

static void s3fifo_lets_out_what_was_used_once_and_takes_back_what_returns(void **state) {
  (void)state;
  bench b = bench_open("S3FIFO:small=0.5");
  for (uint32_t k = 0; k < 4; k++) tell(&b, NEAP_EV_INSERT, k);
  tell(&b, NEAP_EV_HIT, 0);
  tell(&b, NEAP_EV_HIT, 1);
  tell(&b, NEAP_EV_HIT, 1);
  VICTIMS(&b, NEAP_SCOPE_ALL, 1, 0); /* one use is too few */
  tell(&b, NEAP_EV_REMOVE, 0);
  tell(&b, NEAP_EV_INSERT, 0); /* its name was known: main queue, behind 1, which passes there */
  VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 2, 3, 0, 1);
  bench_close(&b);
}

static void sieve_passes_over_what_was_used_once(void **state) {
  (void)state;
  bench b = bench_open("sieve");
  for (uint32_t k = 0; k < 4; k++) tell(&b, NEAP_EV_INSERT, k);
  tell(&b, NEAP_EV_HIT, 0);
  tell(&b, NEAP_EV_HIT, 2);
  VICTIMS(&b, NEAP_SCOPE_ALL, 2, 1, 3);
  tell(&b, NEAP_EV_INSERT, 4);
  VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 0, 2, 4); /* the hand is at the old end again, both marks are gone */
  bench_close(&b);
}

static void lirs_keeps_hot_what_is_used_twice_within_a_short_distance(void **state) {
  (void)state;
  bench b = bench_open("lirs:cold=0.5");
  context.capacity = 4; /* two hot ones */
  for (uint32_t k = 0; k < 4; k++) tell(&b, NEAP_EV_INSERT, k);
  tell(&b, NEAP_EV_HIT, 3); /* turns hot; 0, the hot one used least recently, turns cold */
  VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 2, 0, 1, 3);
  bench_close(&b);
}

static void two_q_takes_back_what_returns_into_its_lru(void **state) {
  (void)state;
  bench b = bench_open("2q:in=0");
  for (uint32_t k = 0; k < 3; k++) tell(&b, NEAP_EV_INSERT, k);
  tell(&b, NEAP_EV_HIT, 0); /* changes nothing in A1in */
  VICTIMS(&b, NEAP_SCOPE_ALL, 1, 0);
  tell(&b, NEAP_EV_REMOVE, 0);
  tell(&b, NEAP_EV_INSERT, 0);
  tell(&b, NEAP_EV_INSERT, 3);
  VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 1, 2, 3, 0);
  bench_close(&b);
}

static void slru_gives_back_the_oldest_of_a_segment_that_is_over_its_limit(void **state) {
  (void)state;
  bench b = bench_open("SLRU:segments=2");
  context.capacity = 4;
  for (uint32_t k = 0; k < 4; k++) tell(&b, NEAP_EV_INSERT, k); /* 2 and 3 found room in the upper segment only */
  tell(&b, NEAP_EV_HIT, 0);                                     /* so 2 comes down */
  VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 1, 2, 3, 0);
  bench_close(&b);
}

static void leaf_lru_names_leaves_only(void **state) {
  (void)state;
  bench b = bench_open("leaf-lru");
  for (uint32_t k = 0; k < 3; k++) tell(&b, NEAP_EV_INSERT, k);
  tell(&b, NEAP_EV_UNLEAF, 0);
  VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 1, 2);
  tell(&b, NEAP_EV_REMOVE, 1);
  tell(&b, NEAP_EV_LEAF, 0);
  VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 0);
  bench_close(&b);
}

static void gdsf_keeps_what_costs_more_per_size(void **state) {
  (void)state;
  bench b = bench_open("GDSF");
  context.cost = (neap_cost){.base_us = 10, .slope_us = 1};
  const neap_event events[] = {{.slot = 0, .type = NEAP_EV_INSERT, .pos = 0, .kib = 1},
                               {.slot = 1, .type = NEAP_EV_INSERT, .pos = 30, .kib = 1},
                               {.slot = 2, .type = NEAP_EV_INSERT, .pos = 30, .kib = 8},
                               {.slot = 3, .type = NEAP_EV_INSERT, .pos = 0, .kib = 1},
                               {.slot = 3, .type = NEAP_EV_HIT}};
  b.policy->on_events(b.self, events, NEAP_ARRAY_LEN(events), NULL);
  VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 2, 0, 3, 1); /* 5, 10, 20, 40 */
  bench_close(&b);
}

static void belady_names_what_is_used_last_of_all(void **state) {
  (void)state;
  bench b = bench_open("Belady");
  next_use[0] = 7, next_use[1] = UINT32_MAX, next_use[2] = 9;
  for (uint32_t k = 0; k < 3; k++) tell(&b, NEAP_EV_INSERT, k);
  VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 1, 2, 0);
  bench_close(&b);
}

static void belady_refuses_to_work_without_the_future(void **state) {
  (void)state;
  neap_error err = {""};
  void *self = NULL;
  const neap_policy *belady = policy_of("Belady");
  const neap_policy_context live = {.size = sizeof(live), .slots = 1, .capacity = 1, .chunk = rows, .params = ""};
  assert_int_equal(belady->create(belady, &live, &self, &err), NEAP_EINVAL);
  assert_string_equal(err.text, "policy Belady needs to know the future; expected a replay of a trace");
}

static void random_names_the_same_slots_for_the_same_seed(void **state) {
  (void)state;
  uint32_t first[SLOTS], again[SLOTS], other[SLOTS];
  uint32_t *const out[] = {first, again, other};
  for (uint32_t run = 0; run < 3; run++) {
    bench b = bench_open("Random");
    bench_close(&b);
    context.seed = run == 2;
    neap_error err;
    assert_int_equal(b.policy->create(b.policy, &context, &b.self, &err), 0);
    for (uint32_t k = 0; k < SLOTS; k++) tell(&b, NEAP_EV_INSERT, k);
    assert_int_equal(b.policy->victims(b.self, NEAP_SCOPE_ALL, out[run], SLOTS, NULL), SLOTS);
    bench_close(&b);
  }
  assert_memory_equal(first, again, sizeof(first));
  assert_memory_not_equal(first, other, sizeof(first));
}

/* A scan of one tenant ages nobody else's: isolated ARC protects what tenant 1 used twice, and takes from tenant 2. */
static void isolation_gives_each_tenant_a_policy_of_its_own(void **state) {
  (void)state;
  bench b = bench_open("isolated:arc");
  assert_string_equal(b.policy->name, "isolated:ARC");
  for (uint32_t k = 0; k < 6; k++) {
    const neap_event ev = {.slot = k, .type = NEAP_EV_INSERT, .tenant = 1 + (k >= 2), .h1 = k};
    b.policy->on_events(b.self, &ev, 1, NULL);
  }
  tell(&b, NEAP_EV_HIT, 0);
  tell(&b, NEAP_EV_HIT, 2);
  VICTIMS(&b, 1, 1, 1);              /* of 0 and 1, the one used once */
  VICTIMS(&b, NEAP_SCOPE_ALL, 1, 3); /* the least recent is tenant 2's, and so is the victim */
  VICTIMS(&b, 2, SLOTS, 4, 5, 2);
  VICTIMS(&b, NEAP_SCOPE_ALL, SLOTS, 0);
  bench_close(&b);
}

static uint32_t heard_types, heard_count;

static int heard_create(const neap_policy *policy, const neap_policy_context *c, void **self, neap_error *err) {
  (void)policy, (void)c, (void)err;
  *self = &heard_types;
  return 0;
}
static void heard_destroy(void *self) { (void)self; }
static int heard_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)self, (void)err;
  for (uint32_t i = 0; i < count; i++) heard_types |= 1u << events[i].type;
  heard_count += count;
  return 0;
}
static int heard_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)self, (void)scope, (void)out, (void)max, (void)err;
  return 0;
}

static void an_isolated_policy_hears_what_it_wants_only(void **state) {
  (void)state;
  static const neap_policy inner = {.magic = NEAP_POLICY_MAGIC,
                                    .abi = NEAP_POLICY_ABI,
                                    .size = sizeof(neap_policy),
                                    .wants = NEAP_WANTS(INSERT) | NEAP_WANTS(REMOVE),
                                    .name = "hears",
                                    .create = heard_create,
                                    .destroy = heard_destroy,
                                    .on_events = heard_events,
                                    .victims = heard_victims};
  static neap__isolated isolated;
  neap__isolated_init(&isolated, &inner);
  bench b = bench_of(&isolated.table, "");
  const neap_event_type types[] = {NEAP_EV_INSERT, NEAP_EV_HIT, NEAP_EV_HIT, NEAP_EV_KEEP, NEAP_EV_REMOVE};
  neap_event events[NEAP_ARRAY_LEN(types)];
  for (uint32_t i = 0; i < NEAP_ARRAY_LEN(types); i++)
    events[i] = (neap_event){.slot = 3, .type = (uint8_t)types[i], .tenant = 1};
  assert_int_equal(b.policy->on_events(b.self, events, NEAP_ARRAY_LEN(types), NULL), 0);
  assert_int_equal(heard_types, inner.wants);
  assert_int_equal(heard_count, 2);
  bench_close(&b);
}

static void noop_proposes_nothing(void **state) {
  (void)state;
  bench b = bench_open("noop");
  tell(&b, NEAP_EV_INSERT, 0);
  NO_VICTIMS(&b, NEAP_SCOPE_ALL);
  bench_close(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_tail_of_a_request_goes_before_its_head),
      cmocka_unit_test(a_touched_slot_goes_last),
      cmocka_unit_test(a_proposed_slot_is_not_proposed_again_before_its_answer),
      cmocka_unit_test(a_kept_slot_is_out_of_the_way_of_the_others),
      cmocka_unit_test(events_of_slots_that_are_not_there_change_nothing),
      cmocka_unit_test(a_tenant_answers_only_for_its_own),
      cmocka_unit_test(arc_protects_what_was_used_again_from_a_scan),
      cmocka_unit_test(arc_keeps_a_ghost_for_each_of_two_objects_with_one_hash),
      cmocka_unit_test(s3fifo_lets_out_what_was_used_once_and_takes_back_what_returns),
      cmocka_unit_test(sieve_passes_over_what_was_used_once),
      cmocka_unit_test(lirs_keeps_hot_what_is_used_twice_within_a_short_distance),
      cmocka_unit_test(two_q_takes_back_what_returns_into_its_lru),
      cmocka_unit_test(slru_gives_back_the_oldest_of_a_segment_that_is_over_its_limit),
      cmocka_unit_test(leaf_lru_names_leaves_only),
      cmocka_unit_test(gdsf_keeps_what_costs_more_per_size),
      cmocka_unit_test(belady_names_what_is_used_last_of_all),
      cmocka_unit_test(belady_refuses_to_work_without_the_future),
      cmocka_unit_test(random_names_the_same_slots_for_the_same_seed),
      cmocka_unit_test(isolation_gives_each_tenant_a_policy_of_its_own),
      cmocka_unit_test(an_isolated_policy_hears_what_it_wants_only),
      cmocka_unit_test(noop_proposes_nothing),
      cmocka_unit_test(lru_answers_like_its_model),
      cmocka_unit_test(isolated_lru_answers_like_its_model),
      cmocka_unit_test(isolated_lru_by_way_of_instances_answers_like_its_model),
      cmocka_unit_test(fifo_answers_like_its_model),
      cmocka_unit_test(lfu_answers_like_its_model),
      cmocka_unit_test(arc_answers_like_its_model),
  };
  return cmocka_run_group_tests(tests, seed_setup, NULL);
}
