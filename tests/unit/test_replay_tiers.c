/* SPDX-License-Identifier: MIT
 *
 * Second-level tiers of a replay against a model in plain arrays: what is loaded, stored, evicted and usable, as the
 * engine does it and under a policy that has plans. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policies/builtin.h"
#include "replay/replay.h"
#include "support/random.h"

#define REQUESTS 300u
#define DEPTH 12u
#define CHUNKS 120u
#define TIERS 2u

static uint64_t rng;
static uint32_t parent_of[CHUNKS];

static neap__trace *random_trace(void) {
  neap__trace *trace = neap__trace_new("random", "test");
  for (uint32_t c = 0; c < CHUNKS; c++) {
    uint32_t depth = 1;
    parent_of[c] = c < 4 ? UINT32_MAX : random_below(&rng, c);
    for (uint32_t p = parent_of[c]; p != UINT32_MAX; p = parent_of[p]) depth++;
    if (depth >= DEPTH) parent_of[c] = UINT32_MAX;
  }
  for (uint32_t r = 0; r < REQUESTS; r++) {
    uint64_t up[DEPTH], hashes[DEPTH];
    uint32_t count = 0;
    for (uint32_t c = random_below(&rng, CHUNKS); c != UINT32_MAX; c = parent_of[c]) up[count++] = 5 + c * 13ull;
    for (uint32_t i = 0; i < count; i++) hashes[i] = up[count - 1 - i];
    assert_int_equal(neap__trace_add(trace, 1000ull * r, NULL, 0, hashes, NULL, count, true, 0), 0);
  }
  return trace;
}

/* --- a policy with plans: no more than that many, per request ----------------------------------------------------- */

typedef struct limits {
  uint32_t load, keep, cut[TIERS];
} limits;
static const limits none = {UINT32_MAX, UINT32_MAX, {UINT32_MAX, UINT32_MAX}};
static limits plans;

static int limit_load(void *self, neap_load_plan *plan, neap_error *err) {
  (void)self, (void)err;
  plan->load = NEAP_MIN(plan->load, plans.load);
  plan->keep = NEAP_MIN(plan->load, plans.keep);
  return 0;
}

static int limit_store(void *self, neap_store_plan *plan, neap_error *err) {
  (void)self, (void)err;
  assert_int_equal(plan->tiers, TIERS);
  assert_string_equal(plan->tier[1].name, "far");
  for (uint32_t t = 0; t < TIERS; t++) plan->cut[t] = NEAP_MIN(plan->cut[t], plans.cut[t]);
  return 0;
}

static int store_too_much(void *self, neap_store_plan *plan, neap_error *err) {
  (void)self, (void)err;
  plan->cut[0] = plan->chunks + 1;
  return 0;
}

/* --- the model: caches are arrays, oldest first ------------------------------------------------------------------- */

typedef struct cache {
  uint32_t held[CHUNKS], count, capacity;
  neap__replay_tier_stats stats;
} cache;

static bool has(const cache *c, uint32_t number) {
  for (uint32_t i = 0; i < c->count; i++)
    if (c->held[i] == number) return true;
  return false;
}

static void drop(cache *c, uint32_t number) {
  uint32_t at = 0;
  while (c->held[at] != number) at++;
  c->count--;
  memmove(&c->held[at], &c->held[at + 1], (c->count - at) * sizeof(c->held[0]));
}

static void add(cache *c, uint32_t number) {
  if (has(c, number)) {
    drop(c, number);
  } else if (c->count == c->capacity) {
    drop(c, c->held[0]);
    c->stats.evictions++;
  }
  c->held[c->count++] = number;
}

typedef struct model {
  cache l1, tier[TIERS];
  uint64_t usable;
  double load_us;
} model;

static const double us_per_kib[TIERS] = {0.5, 2}, first_us[TIERS] = {0, 100};

static void model_request(model *m, const uint32_t *chunk, uint32_t count, const limits *limit) {
  uint32_t from[DEPTH], load = 0;
  bool pass[DEPTH] = {false}, asked[TIERS] = {false};
  for (uint32_t i = 0; i < count; i++) {
    from[i] = has(&m->l1, chunk[i])        ? TIERS
              : has(&m->tier[0], chunk[i]) ? 0
              : has(&m->tier[1], chunk[i]) ? 1
                                           : UINT32_MAX;
    if (load == i && from[i] != UINT32_MAX) load++;
  }
  load = NEAP_MIN(load, limit->load);
  m->usable += load;
  for (uint32_t i = load; i-- > 0;) {
    if (from[i] == TIERS) continue;
    add(&m->tier[from[i]], chunk[i]);
    m->tier[from[i]].stats.loads++;
    m->load_us += 4 * us_per_kib[from[i]];
    asked[from[i]] = true;
    pass[i] = i >= limit->keep;
  }
  for (uint32_t t = 0; t < TIERS; t++) m->load_us += asked[t] ? first_us[t] : 0;
  for (uint32_t i = count; i-- > 0;)
    if (!pass[i]) add(&m->l1, chunk[i]);
  for (uint32_t t = 0; t < TIERS; t++)
    for (uint32_t i = NEAP_MIN(count, limit->cut[t]); i-- > 0;) {
      if (has(&m->tier[t], chunk[i])) continue;
      add(&m->tier[t], chunk[i]);
      m->tier[t].stats.stores++;
    }
}

static void compare(const neap_policy *policy, const limits *limit) {
  neap__trace *trace = random_trace();
  neap__replay_input input;
  neap_error err = {""};
  uint32_t l1 = 1 + random_below(&rng, 40);
  const neap__policy_spec spec = {.policy = policy, .text = "test"};
  neap__replay_options options = {
      .seed = 1, .batch = 1, .threads = 1, .chunk_bytes = 4096, .cost = {100, 0}, .tiers = TIERS};
  model *m = calloc(1, sizeof(*m));
  m->l1.capacity = l1;
  for (uint32_t t = 0; t < TIERS; t++) {
    m->tier[t].capacity = 1 + random_below(&rng, t ? CHUNKS : 60);
    options.tier[t] = (neap__replay_tier){
        .name = "near", .capacity = m->tier[t].capacity, .us_per_kib = us_per_kib[t], .first_us = first_us[t]};
  }
  memcpy(options.tier[1].name, "far", 4);
  for (uint32_t r = 0; r < trace->request_count; r++)
    model_request(m, trace->chunk + trace->requests[r].first, trace->requests[r].chunks, limit);
  assert_int_equal(neap__replay_input_open(trace, false, false, false, &input, &err), 0);
  neap__replay_run run = {.policy = &spec, .capacity = l1};
  plans = *limit;
  assert_int_equal(neap__replay(&input, &options, &run, 1), 0);
  assert_int_equal(run.rc, 0);
  assert_int_equal(run.usable, m->usable);
  assert_int_equal(run.stats.evictions, m->l1.stats.evictions);
  for (uint32_t t = 0; t < TIERS; t++) {
    assert_int_equal(run.tier[t].loads, m->tier[t].stats.loads);
    assert_int_equal(run.tier[t].stores, m->tier[t].stats.stores);
    assert_int_equal(run.tier[t].evictions, m->tier[t].stats.evictions);
    assert_int_equal(run.tier[t].stored_kib, 4 * m->tier[t].stats.stores);
  }
  assert_true(fabs(run.saved_us - 100 * (double)m->usable + m->load_us) < 1e-3);
  assert_int_equal(run.saved_kib, 4 * m->usable);
  free(m);
  neap__replay_input_close(&input);
  neap__trace_free(trace);
}

static void tiers_equal_the_model(void **state) {
  (void)state;
  for (uint32_t round = 0; round < 30; round++) compare(&neap__policy_lru, &none);
}

static void plans_are_honoured(void **state) {
  (void)state;
  neap_policy planner = neap__policy_lru;
  planner.load_plan = limit_load;
  planner.store_plan = limit_store;
  compare(&planner, &none);
  compare(&planner, &(limits){UINT32_MAX, UINT32_MAX, {0, 0}});
  for (uint32_t round = 0; round < 30; round++) {
    const limits limit = {
        random_below(&rng, DEPTH), random_below(&rng, DEPTH), {random_below(&rng, DEPTH), random_below(&rng, DEPTH)}};
    compare(&planner, &limit);
  }
}

static void a_plan_that_is_nonsense_ends_the_run(void **state) {
  (void)state;
  neap_policy planner = neap__policy_lru;
  planner.store_plan = store_too_much;
  planner.name = "greedy";
  const neap__policy_spec spec = {.policy = &planner, .text = "greedy"};
  const neap__replay_options options = {
      .seed = 1, .batch = 1, .threads = 1, .chunk_bytes = 4096, .tiers = 1, .tier = {{"near", 50, 1, 1}}};
  neap__trace *trace = random_trace();
  neap__replay_input input;
  assert_int_equal(neap__replay_input_open(trace, false, false, false, &input, NULL), 0);
  neap__replay_run run = {.policy = &spec, .capacity = 10};
  assert_int_equal(neap__replay(&input, &options, &run, 1), 0);
  assert_int_equal(run.rc, NEAP_ESCRIPT);
  assert_non_null(strstr(run.err.text, "store_plan"));
  neap__replay_input_close(&input);
  neap__trace_free(trace);
}

static void tiers_are_read(void **state) {
  (void)state;
  static const char *const bad[] = {"",
                                    "ssd",
                                    "ssd:50%",
                                    "ssd:50%:3",
                                    "ssd:0%:3GBps",
                                    "ssd:50%:0GBps",
                                    "ssd:50%:3GBps:2",
                                    ":50%:3GBps",
                                    "ssd:50%:3GBps:2ms:1",
                                    "ssd:50%:fast",
                                    "ssd:50%:3GBps:-2ms",
                                    "ssd:50%:3GBps:1e400ms",
                                    "ssd:50%:1e-400GBps",
                                    "ssd:50%:1e-315KBps",
                                    "a:b:c:d"};
  neap__replay_tier_spec tier;
  neap_error err = {""};
  assert_int_equal(neap__replay_tier_parse("ssd:50%:4GBps", &tier, &err), 0);
  assert_string_equal(tier.tier.name, "ssd");
  assert_true(fabs(tier.tier.us_per_kib - (0.256)) < 1e-9);
  assert_true(fabs(tier.size.value - (0.5)) < 1e-9);
  assert_int_equal(neap__replay_tier_parse("remote:1T:1GiB/s:2ms", &tier, &err), 0);
  assert_true(fabs(tier.tier.us_per_kib - 1e6 / 1048576) < 1e-9);
  assert_true(fabs(tier.tier.first_us - (2000)) < 1e-9);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(bad); i++) {
    err.text[0] = '\0';
    assert_int_equal(neap__replay_tier_parse(bad[i], &tier, &err), NEAP_EINVAL);
    assert_true(err.text[0] == '-');
  }
}

int main(void) {
  rng = random_seed("test_replay_tiers");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tiers_equal_the_model),
      cmocka_unit_test(plans_are_honoured),
      cmocka_unit_test(a_plan_that_is_nonsense_ends_the_run),
      cmocka_unit_test(tiers_are_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
