/* SPDX-License-Identifier: MIT
 *
 * Replays against a model that shares no code with them: an LRU in a plain array, next uses and reuse distances by
 * looking through the whole trace. Random prefix trees, both orders. */
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

#define REQUESTS 400u
#define DEPTH 14u
#define CHUNKS 160u
#define TOUCHES_MAX (REQUESTS * DEPTH)

static const neap__policy_spec lru = {.policy = &neap__policy_lru, .text = "lru"};
static const neap__policy_spec arc = {.policy = &neap__policy_arc, .text = "arc"};
static const neap__replay_options plain = {.seed = 1, .batch = 1, .threads = 1, .cost = {100, 3}, .load_us = 7};

/* --- traces ------------------------------------------------------------------------------------------------------- */

static uint64_t rng;
static uint32_t parent_of[CHUNKS];

/* A path from a random chunk of a random forest up to its root. */
static uint32_t path(uint64_t hashes[DEPTH]) {
  uint32_t count = 0;
  uint64_t up[DEPTH];
  for (uint32_t c = random_below(&rng, CHUNKS); c != UINT32_MAX; c = parent_of[c]) up[count++] = 77 + c * 31ull;
  for (uint32_t i = 0; i < count; i++) hashes[i] = up[count - 1 - i];
  return count;
}

static neap__trace *random_trace(uint32_t requests, const char *tenants) {
  neap__trace *trace = neap__trace_new("random", "test");
  assert_non_null(trace);
  for (uint32_t c = 0; c < CHUNKS; c++) {
    uint32_t depth = 1;
    parent_of[c] = c < 4 ? UINT32_MAX : random_below(&rng, c);
    for (uint32_t p = parent_of[c]; p != UINT32_MAX; p = parent_of[p]) depth++;
    if (depth >= DEPTH) parent_of[c] = UINT32_MAX;
  }
  for (uint32_t r = 0; r < requests; r++) {
    uint64_t hashes[DEPTH];
    uint32_t count = path(hashes);
    const char tenant[2] = {tenants[random_below(&rng, (uint32_t)strlen(tenants))], '\0'};
    assert_int_equal(neap__trace_add(trace, 1000000ull * r, tenant, 0, hashes, NULL, count, true, 0), 0);
  }
  return trace;
}

static neap__replay_input input_of(const neap__trace *trace, bool head_first) {
  neap__replay_input input;
  neap_error err;
  assert_int_equal(neap__replay_input_open(trace, head_first, false, true, &input, &err), 0);
  return input;
}

static neap__replay_run run_of(const neap__replay_input *input, const neap__policy_spec *policy, uint64_t capacity,
                               const neap__replay_options *options) {
  neap__replay_run run = {.policy = policy, .capacity = capacity};
  assert_int_equal(neap__replay(input, options, &run, 1), 0);
  return run;
}

/* --- the model: recency order in an array, least recent first ----------------------------------------------------- */

typedef struct model {
  uint32_t held[CHUNKS], count, capacity;
  uint64_t hits, prefix_hits, evictions, orphans;
  double saved_us;
} model;

static uint32_t find(const model *m, uint32_t number) {
  uint32_t at = 0;
  while (at < m->count && m->held[at] != number) at++;
  return at;
}

static void drop(model *m, uint32_t at) {
  m->count--;
  memmove(&m->held[at], &m->held[at + 1], (m->count - at) * sizeof(m->held[0]));
}

static void model_touch(model *m, const neap__lineage *lineage, uint32_t number) {
  uint32_t at = find(m, number);
  if (at < m->count) {
    m->hits++;
    drop(m, at);
  } else if (m->count == m->capacity) {
    uint32_t victim = m->held[0];
    bool orphans = false;
    for (uint32_t i = 1; i < m->count; i++) orphans |= lineage->parent[m->held[i]] == victim;
    m->evictions++;
    m->orphans += orphans;
    drop(m, 0);
  }
  m->held[m->count++] = number;
}

static model model_of(const neap__trace *trace, bool head_first, uint32_t capacity) {
  model m = {.capacity = capacity};
  for (uint32_t r = 0; r < trace->request_count; r++) {
    const neap__trace_request *request = &trace->requests[r];
    const uint32_t *chunk = trace->chunk + request->first;
    uint32_t prefix = 0;
    while (prefix < request->chunks && find(&m, chunk[prefix]) < m.count) prefix++;
    m.prefix_hits += prefix;
    for (uint32_t i = 0; i < prefix; i++) m.saved_us += 100 + 3 * i - 7;
    for (uint32_t i = 0; i < request->chunks; i++)
      model_touch(&m, &trace->lineage, chunk[head_first ? i : request->chunks - 1 - i]);
  }
  return m;
}

static void lru_equals_the_model(void **state) {
  (void)state;
  for (uint32_t round = 0; round < 40; round++) {
    bool head_first = round % 2;
    neap__trace *trace = random_trace(REQUESTS, "ab");
    neap__replay_input input = input_of(trace, head_first);
    uint32_t capacity = 1 + random_below(&rng, round % 3 ? 40 : CHUNKS);
    model m = model_of(trace, head_first, capacity);
    neap__replay_run run = run_of(&input, &lru, capacity, &plain);
    assert_int_equal(run.rc, 0);
    assert_int_equal(run.stats.requests, REQUESTS);
    assert_int_equal(run.stats.accesses, trace->references);
    assert_int_equal(run.stats.hits, m.hits);
    assert_int_equal(run.stats.prefix_hits, m.prefix_hits);
    assert_int_equal(run.stats.evictions, m.evictions);
    assert_int_equal(run.stats.orphan_evictions, m.orphans);
    assert_true(fabs(run.saved_us - (m.saved_us)) < 1e-3);
    neap__replay_input_close(&input);
    neap__trace_free(trace);
  }
}

/* Buckets of time and groups of tenants are two ways to cut the same whole. */
static void shares_add_up(void **state) {
  (void)state;
  neap__trace *trace = random_trace(REQUESTS, "abcdefghijklmnopqrstuvwxyz");
  neap__replay_input input = input_of(trace, false);
  assert_true(input.by_time);
  assert_int_equal(input.groups, NEAP__REPLAY_GROUPS);
  neap__replay_run run = run_of(&input, &arc, 30, &plain);
  neap__replay_share time = {0}, tenants = {0};
  for (uint32_t b = 0; b < NEAP__REPLAY_BUCKETS; b++) {
    time.accesses += run.bucket[b].accesses;
    time.hits += run.bucket[b].hits;
    time.prefix_hits += run.bucket[b].prefix_hits;
  }
  for (uint32_t g = 0; g < input.groups; g++) {
    tenants.accesses += run.group[g].accesses;
    tenants.hits += run.group[g].hits;
    tenants.prefix_hits += run.group[g].prefix_hits;
    if (g > 0 && g + 1 < input.groups) assert_true(run.group[g].accesses <= run.group[g - 1].accesses);
  }
  const neap__replay_share whole = {run.stats.accesses, run.stats.hits, run.stats.prefix_hits};
  assert_memory_equal(&time, &whole, sizeof(whole));
  assert_memory_equal(&tenants, &whole, sizeof(whole));
  assert_string_equal(input.group_name[NEAP__REPLAY_GROUPS - 1], "others");
  neap__replay_input_close(&input);
  neap__trace_free(trace);
}

/* --- next uses and reuse distances -------------------------------------------------------------------------------- */

/* The chunks in the order of their touches, and where in trace->chunk each comes from. */
static uint32_t touches(const neap__trace *trace, bool head_first, uint32_t *number, uint64_t *index) {
  uint32_t count = 0;
  for (uint32_t r = 0; r < trace->request_count; r++) {
    const neap__trace_request *request = &trace->requests[r];
    for (uint32_t i = 0; i < request->chunks; i++, count++) {
      index[count] = request->first + (head_first ? i : request->chunks - 1 - i);
      number[count] = trace->chunk[index[count]];
    }
  }
  return count;
}

static void future_and_past_are_what_they_are(void **state) {
  (void)state;
  static uint32_t number[TOUCHES_MAX];
  static uint64_t index[TOUCHES_MAX];
  for (int head_first = 0; head_first <= 1; head_first++) {
    neap__trace *trace = random_trace(120, "a");
    neap__replay_input input = input_of(trace, head_first);
    neap__replay_reuse reuse;
    uint64_t cold = 0, histogram[33] = {0};
    uint32_t count = touches(trace, head_first, number, index);
    assert_int_equal(neap__replay_reuse_open(&input, &reuse), 0);
    for (uint32_t i = 0; i < count; i++) {
      uint32_t next = i + 1, distance = 0;
      while (next < count && number[next] != number[i]) next++;
      assert_int_equal(input.next[index[i]], next < count ? next : UINT32_MAX);
      bool seen[CHUNKS] = {false};
      int64_t before = (int64_t)i - 1;
      for (; before >= 0 && number[before] != number[i]; before--) {
        distance += !seen[number[before]];
        seen[number[before]] = true;
      }
      if (before < 0) {
        cold++;
        continue;
      }
      uint32_t bin = 0;
      while (distance >> bin) bin++;
      histogram[bin]++;
    }
    assert_int_equal(reuse.cold, cold);
    assert_int_equal(reuse.cold, input.distinct);
    assert_memory_equal(reuse.histogram, histogram, sizeof(histogram));
    for (uint32_t capacity = 1; capacity <= input.distinct; capacity += 3)
      assert_int_equal(reuse.hits[capacity], run_of(&input, &lru, capacity, &plain).stats.hits);
    neap__replay_reuse_close(&reuse);
    neap__replay_input_close(&input);
    neap__trace_free(trace);
  }
}

/* The window of times is closed up many times over. */
static void reuse_distances_of_a_long_trace(void **state) {
  (void)state;
  neap__trace *trace = neap__trace_new("long", "test");
  for (uint32_t i = 0; i < 20000; i++) {
    uint64_t hash = 1 + random_below(&rng, 1 + random_below(&rng, 300));
    assert_int_equal(neap__trace_add(trace, i, NULL, 0, &hash, NULL, 1, false, 0), 0);
  }
  neap__replay_input input = input_of(trace, false);
  neap__replay_reuse reuse;
  assert_int_equal(neap__replay_reuse_open(&input, &reuse), 0);
  for (uint32_t capacity = 1; capacity <= input.distinct; capacity += 29)
    assert_int_equal(reuse.hits[capacity], run_of(&input, &lru, capacity, &plain).stats.hits);
  neap__replay_reuse_close(&reuse);
  neap__replay_input_close(&input);
  neap__trace_free(trace);
}

/* --- many runs ---------------------------------------------------------------------------------------------------- */

static void note_progress(void *ctx, uint64_t done, uint64_t total) {
  uint64_t *most = ctx;
  assert_true(done >= *most && done <= total);
  *most = done;
}

static void threads_change_nothing(void **state) {
  (void)state;
  neap__trace *trace = random_trace(REQUESTS, "abc");
  neap__replay_input input = input_of(trace, false);
  neap__replay_run *runs[2];
  for (uint32_t way = 0; way < 2; way++) {
    uint64_t done = 0;
    neap__replay_options options = plain;
    options.threads = way ? 7 : 1;
    options.progress = note_progress;
    options.ctx = &done;
    runs[way] = calloc(24, sizeof(neap__replay_run));
    for (uint32_t i = 0; i < 24; i++) {
      runs[way][i].policy = i % 2 ? &lru : &arc;
      runs[way][i].capacity = 1 + i * 5;
    }
    assert_int_equal(neap__replay(&input, &options, runs[way], 24), 0);
    assert_int_equal(done, 24 * trace->references);
  }
  for (uint32_t i = 0; i < 24; i++) runs[0][i].seconds = runs[1][i].seconds = 0;
  assert_memory_equal(runs[0], runs[1], 24 * sizeof(neap__replay_run));
  free(runs[0]);
  free(runs[1]);
  neap__replay_input_close(&input);
  neap__trace_free(trace);
}

/* --- a policy that fails ------------------------------------------------------------------------------------------ */

static int fails_at_the_tenth(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  static uint32_t asked; /* one thread asks */
  if (++asked < 10) return neap__policy_lru.victims(self, scope, out, max, err);
  return neap__fail(err, NEAP_ESCRIPT, "mine.lua:12: no more");
}

static void a_failure_is_the_runs_end(void **state) {
  (void)state;
  neap_policy table = neap__policy_lru;
  table.victims = fails_at_the_tenth;
  table.name = "mine";
  const neap__policy_spec mine = {.policy = &table, .text = "./mine.lua"};
  neap__trace *trace = random_trace(REQUESTS, "a");
  neap__replay_input input = input_of(trace, false);
  neap__replay_run run = run_of(&input, &mine, 10, &plain);
  assert_int_equal(run.rc, NEAP_ESCRIPT);
  assert_non_null(strstr(run.err.text, "mine.lua:12: no more"));
  neap__replay_input_close(&input);
  neap__trace_free(trace);
}

/* --- sizes -------------------------------------------------------------------------------------------------------- */

static void sizes_are_read(void **state) {
  (void)state;
  static const struct {
    const char *word;
    neap__replay_size_kind kind;
    double value;
  } good[] = {{"5%", NEAP_REPLAY_FRACTION, 0.05},        {"0.1%", NEAP_REPLAY_FRACTION, 0.001},
              {"250%", NEAP_REPLAY_FRACTION, 2.5},       {"1", NEAP_REPLAY_CHUNKS, 1},
              {"20000", NEAP_REPLAY_CHUNKS, 20000},      {"64K", NEAP_REPLAY_BYTES, 65536},
              {"1.5G", NEAP_REPLAY_BYTES, 1.5 * 0x1p30}, {"2GiB", NEAP_REPLAY_BYTES, 0x1p31},
              {"3MB", NEAP_REPLAY_BYTES, 3 * 0x1p20},    {"4096B", NEAP_REPLAY_BYTES, 4096}};
  static const char *const bad[] = {"",     "0",   "0%",  "0.0%", "-5%", "5%%", "five", "1e3",
                                    "0x10", "1.5", "5 %", "5X",   "5MX", "nan", "inf%", "9999999999999999999999",
                                    "%",    "64Q"};
  neap__replay_size size;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(good); i++) {
    assert_int_equal(neap__replay_size_parse(good[i].word, &size, NULL), 0);
    assert_int_equal(size.kind, good[i].kind);
    assert_true(fabs(size.value - (good[i].value)) < 1e-9);
    assert_string_equal(size.text, good[i].word);
  }
  for (size_t i = 0; i < NEAP_ARRAY_LEN(bad); i++) {
    neap_error err = {""};
    assert_int_equal(neap__replay_size_parse(bad[i], &size, &err), NEAP_EINVAL);
    assert_non_null(strstr(err.text, "--size"));
    assert_non_null(strstr(err.text, bad[i]));
  }
}

static uint64_t capacity_of(const char *word, const neap__replay_input *input, uint64_t chunk_bytes) {
  neap__replay_size size;
  uint64_t units = 0, chunks;
  neap_error err;
  assert_int_equal(neap__replay_size_parse(word, &size, NULL), 0);
  return neap__replay_capacity(&size, input, chunk_bytes, &units, &chunks, &err) == 0 ? units : 0;
}

static void sizes_are_of_the_trace(void **state) {
  (void)state;
  const neap__trace trace = {.name = "t"};
  const uint32_t kib = 4;
  const neap__replay_input same = {.trace = &trace, .distinct = 182790, .units_total = 182790};
  const neap__replay_input sized = {.trace = &trace, .distinct = 1000, .units_total = 4000, .units = &kib};
  assert_int_equal(capacity_of("1%", &same, 0), 1827);
  assert_int_equal(capacity_of("5%", &same, 0), 9139);
  assert_int_equal(capacity_of("100%", &same, 0), 182790);
  assert_int_equal(capacity_of("0.0001%", &same, 0), 1);
  assert_int_equal(capacity_of("500000", &same, 0), 500000);
  assert_int_equal(capacity_of("64M", &same, 0), 0); /* bytes of chunks without a size */
  assert_int_equal(capacity_of("64M", &same, 1 << 20), 64);
  assert_int_equal(capacity_of("1K", &same, 1 << 20), 0);
  assert_int_equal(capacity_of("10%", &sized, 0), 400);
  assert_int_equal(capacity_of("1M", &sized, 0), 1024);
  assert_int_equal(capacity_of("5", &sized, 0), 0);
  const neap__replay_input vast = {.trace = &trace, .distinct = 1u << 31, .units_total = 1ull << 63, .units = &kib};
  assert_true(capacity_of("10000000%", &vast, 0) == 1ull << 62); /* no whole number of 64 bits */
  for (uint32_t percent = 1; percent <= 100; percent++) {        /* 29 % of 100 is not 28.999... */
    const neap__replay_input hundred = {.trace = &trace, .distinct = 100, .units_total = 100};
    char word[8];
    snprintf(word, sizeof(word), "%u%%", percent);
    assert_int_equal(capacity_of(word, &hundred, 0), percent);
  }
}

static void an_empty_trace_is_refused(void **state) {
  (void)state;
  neap__trace *trace = neap__trace_new("empty", "test");
  neap__replay_input input;
  neap_error err = {""};
  assert_int_equal(neap__replay_input_open(trace, false, false, false, &input, &err), NEAP_EINVAL);
  assert_non_null(strstr(err.text, "empty"));
  neap__trace_free(trace);
}

int main(void) {
  rng = random_seed("test_replay");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lru_equals_the_model),
      cmocka_unit_test(shares_add_up),
      cmocka_unit_test(future_and_past_are_what_they_are),
      cmocka_unit_test(reuse_distances_of_a_long_trace),
      cmocka_unit_test(threads_change_nothing),
      cmocka_unit_test(a_failure_is_the_runs_end),
      cmocka_unit_test(sizes_are_read),
      cmocka_unit_test(sizes_are_of_the_trace),
      cmocka_unit_test(an_empty_trace_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
