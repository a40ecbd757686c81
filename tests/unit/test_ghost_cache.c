/* SPDX-License-Identifier: MIT
 *
 * A cache of names against a model that keeps no lists: random requests over a random forest of prefixes, every answer
 * compared, and what a policy is told of leaves counted by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "policies/builtin.h"
#include "policy/ghost_cache.h"
#include "support/random.h"

#define CHUNKS 300u
#define DEPTH 12u
#define REQUESTS 4000u

static uint64_t seed;

static uint32_t rnd(uint32_t below) { return random_below(&seed, below); }

static int seed_setup(void **state) {
  (void)state;
  seed = random_seed("test_ghost_cache");
  return 0;
}

/* --- a forest ------------------------------------------------------------------------------------------------- */

static neap__lineage forest;

static int forest_setup(void **state) {
  (void)state;
  assert_int_equal(neap__lineage_open(&forest, 0), 0);
  for (uint32_t i = 0; i < CHUNKS; i++) {
    uint32_t parent = i < 5 ? NEAP__NO_CHUNK : rnd(i), number;
    uint32_t depth = 0;
    for (uint32_t p = parent; p != NEAP__NO_CHUNK; p = forest.parent[p]) depth++;
    if (depth + 1 >= DEPTH) parent = NEAP__NO_CHUNK;
    assert_int_equal(neap__lineage_add(&forest, 1000 + i * 7919ull, parent, &number), 0);
    assert_int_equal(number, i);
  }
  return 0;
}

static int forest_teardown(void **state) {
  (void)state;
  neap__lineage_close(&forest);
  return 0;
}

/* A path of the forest, head first. */
static uint32_t some_path(uint32_t *chunk) {
  uint32_t back[DEPTH], count = 0;
  for (uint32_t c = NEAP_MIN(rnd(CHUNKS), rnd(CHUNKS)); c != NEAP__NO_CHUNK; c = forest.parent[c]) back[count++] = c;
  for (uint32_t i = 0; i < count; i++) chunk[i] = back[count - 1 - i];
  return count;
}

/* --- LRU, by searching ---------------------------------------------------------------------------------------- */

typedef struct model {
  uint64_t stamp[CHUNKS]; /* 0: not resident */
  uint64_t clock, used, capacity;
  uint64_t hits, prefix, evictions, orphans;
} model;

static uint32_t kids_of(const model *m, uint32_t chunk) {
  uint32_t kids = 0;
  for (uint32_t c = 0; c < CHUNKS; c++) kids += m->stamp[c] != 0 && forest.parent[c] == chunk;
  return kids;
}

static void model_evict(model *m, const uint32_t *units) {
  uint32_t oldest = UINT32_MAX;
  for (uint32_t c = 0; c < CHUNKS; c++)
    if (m->stamp[c] != 0 && (oldest == UINT32_MAX || m->stamp[c] < m->stamp[oldest])) oldest = c;
  m->evictions++;
  m->orphans += kids_of(m, oldest) != 0;
  m->stamp[oldest] = 0;
  m->used -= units ? units[oldest] : 1;
}

static void model_use(model *m, const uint32_t *chunk, uint32_t count, const uint32_t *units, bool head_first) {
  for (uint32_t i = 0; i < count && m->stamp[chunk[i]] != 0; i++) m->prefix++;
  for (uint32_t n = 0; n < count; n++) {
    uint32_t c = chunk[head_first ? n : count - 1 - n];
    if (m->stamp[c] != 0) {
      m->hits++;
    } else {
      uint32_t size = units ? units[c] : 1;
      if (size > m->capacity) continue;
      while (m->used + size > m->capacity) model_evict(m, units);
      m->used += size;
    }
    m->stamp[c] = ++m->clock;
  }
}

static void compare(uint64_t capacity, bool sized, bool head_first) {
  neap_error err = {""};
  neap__ghost_cache *cache = NULL;
  model m = {.capacity = capacity};
  uint32_t chunk[DEPTH], sizes[CHUNKS];
  for (uint32_t c = 0; c < CHUNKS; c++) sizes[c] = 1 + rnd(40);
  const neap__ghost_config config = {.policy = &neap__policy_lru,
                                     .lineage = &forest,
                                     .numbers = CHUNKS,
                                     .capacity = capacity,
                                     .head_first = head_first};
  assert_int_equal(neap__ghost_open(&config, &cache, &err), 0);
  for (uint32_t r = 0; r < REQUESTS; r++) {
    neap__ghost_request request = {.chunk = chunk, .chunks = some_path(chunk), .units = sized ? sizes : NULL};
    neap__ghost_answer answer;
    uint64_t prefix = m.prefix;
    model_use(&m, chunk, request.chunks, request.units, head_first);
    neap__ghost_use(cache, &request, &answer);
    assert_int_equal(answer.prefix, m.prefix - prefix);
    assert_true(answer.hits >= answer.prefix && answer.hits <= request.chunks);
  }
  neap__ghost_stats stats;
  neap__ghost_stats_get(cache, &stats);
  assert_int_equal(stats.hits, m.hits);
  assert_int_equal(stats.prefix_hits, m.prefix);
  assert_int_equal(stats.evictions, m.evictions);
  assert_int_equal(stats.orphan_evictions, m.orphans);
  assert_int_equal(stats.used, m.used);
  assert_int_equal(stats.requests, REQUESTS);
  assert_int_equal(stats.policy.completed, 0);
  assert_int_equal(stats.policy.refused, 0);
  if (!sized && capacity > DEPTH && !head_first) assert_int_equal(m.orphans, 0); /* tail first LRU is leaf first */
  neap__ghost_close(cache);
}

static void lru_answers_like_its_model(void **state) {
  (void)state;
  const uint64_t capacities[] = {1, 2, DEPTH + 1, 40, 150, CHUNKS, 10 * CHUNKS};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(capacities); i++)
    for (uint32_t variant = 0; variant < 4; variant++) compare(capacities[i], variant & 1, variant & 2);
}

/* --- a policy that checks what it is told --------------------------------------------------------------------- */

typedef struct witness {
  const neap_policy_context *context;
  neap_event in[2 * CHUNKS];    /* the INSERT of what is in a slot; type 0: nothing */
  bool inner[2 * CHUNKS];       /* by the UNLEAF and LEAF events */
  uint32_t requests, announced; /* chunks that the last REQUEST announced and that were not told of yet */
  uint32_t misses, events;
} witness;

static witness *watching;

static int witness_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  (void)policy, (void)err;
  watching->context = context;
  *self = watching;
  return 0;
}

static void witness_destroy(void *self) { (void)self; }

static void witness_event(witness *w, const neap_event *ev) {
  w->events++;
  switch (ev->type) {
    case NEAP_EV_REQUEST:
      assert_int_equal(ev->slot, NEAP_POLICY_NO_SLOT);
      assert_int_equal(ev->h1, 77);
      assert_int_equal(w->announced, 0);
      w->announced = ev->pos;
      w->requests++;
      break;
    case NEAP_EV_MISS:
      assert_int_equal(ev->slot, NEAP_POLICY_NO_SLOT);
      w->misses++;
      break;
    case NEAP_EV_INSERT:
      assert_int_equal(w->in[ev->slot].type, 0);
      assert_int_equal(--w->announced, ev->pos);
      w->in[ev->slot] = *ev;
      w->inner[ev->slot] = false;
      break;
    case NEAP_EV_HIT:
      assert_int_equal(--w->announced, ev->pos);
      assert_int_equal(w->in[ev->slot].h1, ev->h1);
      break;
    case NEAP_EV_REMOVE:
      assert_int_equal(w->in[ev->slot].h1, ev->h1);
      w->in[ev->slot].type = 0;
      break;
    case NEAP_EV_UNLEAF:
    case NEAP_EV_LEAF:
      assert_int_equal(w->in[ev->slot].h1, ev->h1);
      assert_int_equal(w->inner[ev->slot], ev->type == NEAP_EV_LEAF);
      w->inner[ev->slot] = ev->type == NEAP_EV_UNLEAF;
      break;
    default: assert_int_equal(ev->type, NEAP_EV_KEEP);
  }
}

static int witness_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  for (uint32_t i = 0; i < count; i++) witness_event(self, &events[i]);
  return 0;
}

/* Any resident, leaf or not: the engine sorts out. Before, everything it was told must agree with the rows. */
static int witness_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  witness *w = self;
  uint32_t got = 0;
  (void)err;
  assert_int_equal(scope, NEAP_SCOPE_ALL);
  for (uint32_t slot = 0; slot < w->context->slots; slot++) {
    if (w->in[slot].type == 0) continue;
    uint32_t number = neap__lineage_find(&forest, w->in[slot].h1 | (uint64_t)w->in[slot].h2 << 32), kids = 0;
    for (uint32_t other = 0; other < w->context->slots; other++) {
      if (w->in[other].type == 0) continue;
      uint32_t child = neap__lineage_find(&forest, w->in[other].h1 | (uint64_t)w->in[other].h2 << 32);
      kids += forest.parent[child] == number;
    }
    assert_int_equal(w->context->chunk[slot].children, kids);
    assert_int_equal(w->inner[slot], kids != 0);
  }
  for (uint32_t tries = 0; tries < 8 && got < max; tries++) {
    uint32_t slot = rnd(w->context->slots);
    if (w->in[slot].type != 0) out[got++] = slot;
  }
  return (int)got;
}

static const neap_policy witness_policy = {
    .magic = NEAP_POLICY_MAGIC,
    .abi = NEAP_POLICY_ABI,
    .size = sizeof(neap_policy),
    .wants = UINT32_MAX,
    .constraint = NEAP_EVICT_LEAF,
    .name = "witness",
    .create = witness_create,
    .destroy = witness_destroy,
    .on_events = witness_on_events,
    .victims = witness_victims,
};

static void a_policy_is_told_of_requests_misses_and_leaves(void **state) {
  (void)state;
  witness w = {.requests = 0};
  neap_error err = {""};
  neap__ghost_cache *cache = NULL;
  uint32_t chunk[DEPTH];
  watching = &w;
  const neap__ghost_config config = {
      .policy = &witness_policy, .lineage = &forest, .numbers = CHUNKS, .capacity = 60, .batch = 4};
  assert_int_equal(neap__ghost_open(&config, &cache, &err), 0);
  for (uint32_t r = 0; r < 1000; r++) {
    neap__ghost_request request = {.chunk = chunk, .chunks = some_path(chunk), .session = 77};
    neap__ghost_answer answer;
    neap__ghost_use(cache, &request, &answer);
    if (r % 10 == 0) neap__ghost_forget(cache, 5 + rnd(CHUNKS - 5));
  }
  neap__ghost_stats stats;
  neap__ghost_stats_get(cache, &stats);
  assert_false(stats.policy.out);
  assert_int_equal(w.requests, 1000);
  assert_int_equal(w.misses, stats.accesses - stats.hits);
  assert_true(stats.evictions > 100);
  neap__ghost_close(cache);
}

/* --- the edges ------------------------------------------------------------------------------------------------ */

static void no_capacity_is_refused(void **state) {
  (void)state;
  neap_error err = {""};
  neap__ghost_cache *cache = NULL;
  const neap__ghost_config config = {.policy = &neap__policy_lru, .lineage = &forest, .numbers = CHUNKS};
  assert_int_equal(neap__ghost_open(&config, &cache, &err), NEAP_EINVAL);
  assert_string_equal(err.text, "capacity is 0; expected at least 1");
}

static void what_nothing_makes_room_for_is_passed_by(void **state) {
  (void)state;
  neap_error err = {""};
  neap__ghost_cache *cache = NULL;
  const uint32_t chunk[] = {0, 1, 2, 3, 4};
  const neap__ghost_config config = {
      .policy = &neap__policy_noop, .lineage = &forest, .numbers = CHUNKS, .capacity = 3};
  const neap__ghost_request request = {.chunk = chunk, .chunks = 5};
  neap__ghost_answer answer;
  neap__ghost_stats stats;
  assert_int_equal(neap__ghost_open(&config, &cache, &err), 0);
  neap__ghost_use(cache, &request, &answer);
  neap__ghost_use(cache, &request, &answer);
  neap__ghost_stats_get(cache, &stats);
  assert_int_equal(answer.hits, 3);
  assert_int_equal(answer.prefix, 0); /* the tail came first */
  assert_int_equal(stats.bypassed, 4);
  assert_int_equal(stats.used, 3);
  neap__ghost_close(cache);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lru_answers_like_its_model),
      cmocka_unit_test(a_policy_is_told_of_requests_misses_and_leaves),
      cmocka_unit_test(no_capacity_is_refused),
      cmocka_unit_test(what_nothing_makes_room_for_is_passed_by),
  };
  if (seed_setup(NULL) != 0) return 1;
  return cmocka_run_group_tests(tests, forest_setup, forest_teardown);
}
