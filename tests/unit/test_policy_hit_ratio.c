/* SPDX-License-Identifier: MIT
 *
 * The built-in policies on a real trace, against the hit ratios that libCacheSim found (tests/data/README.md). A small
 * cache is simulated around the event stream: a block is a slot, a full cache asks for one victim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "policy/stream.h"

#define BLOCKS 6162u
#define REFERENCES 61278u
#define REQUEST_MAX 8192u
#define NOWHERE UINT32_MAX

typedef struct cache {
  neap__stream *stream;
  uint32_t used, capacity;
  uint32_t slot_of[BLOCKS];
  uint32_t block_in[BLOCKS];
  uint32_t hits, references;
} cache;

static void emit(cache *c, neap_event_type type, uint32_t slot) {
  uint32_t block = c->block_in[slot];
  const neap_event ev = {.slot = slot, .type = (uint8_t)type, .detail = NEAP_REMOVE_EVICT, .h1 = block, .h2 = ~block};
  neap__stream_emit(c->stream, &ev, 1);
}

static void reference(cache *c, uint32_t block) {
  uint32_t slot = c->slot_of[block];
  c->references++;
  if (slot != NOWHERE) {
    c->hits++;
    emit(c, NEAP_EV_HIT, slot);
    return;
  }
  if (c->used < c->capacity) {
    slot = c->used++;
  } else {
    assert_int_equal(neap__stream_victims(c->stream, NEAP_SCOPE_ALL, &slot, 1), 1);
    emit(c, NEAP_EV_REMOVE, slot);
    c->slot_of[c->block_in[slot]] = NOWHERE;
  }
  c->slot_of[block] = slot;
  c->block_in[slot] = block;
  emit(c, NEAP_EV_INSERT, slot);
}

/* One line of ids and ranges of ids; returns how many blocks it names. */
static uint32_t parse_request(const char *line, uint32_t *blocks) {
  uint32_t count = 0;
  char *end = NULL;
  for (; *line != '\0' && *line != '\n'; line = end + (*end == ' ')) {
    unsigned long first = strtoul(line, &end, 10);
    unsigned long last = *end == '-' ? strtoul(end + 1, &end, 10) : first;
    assert_true(end != line && first <= last && last < BLOCKS && count + last - first < REQUEST_MAX);
    for (unsigned long block = first; block <= last; block++) blocks[count++] = (uint32_t)block;
  }
  return count;
}

static double hit_ratio(const char *policy, uint32_t capacity) {
  const char *root = getenv("NEAP_SOURCE");
  char path[512];
  snprintf(path, sizeof(path), "%s/tests/data/agent_trace.txt", root != NULL ? root : ".");
  FILE *trace = fopen(path, "r");
  assert_non_null(trace);

  neap_error err;
  static cache c;
  c = (cache){.capacity = capacity};
  memset(c.slot_of, 0xff, sizeof(c.slot_of));
  const neap__instance_config config = {.policy = neap__policy_find(policy, &err), .slots = capacity};
  assert_int_equal(neap__stream_open(&config, &c.stream, &err), 0);
  char line[256];
  while (fgets(line, sizeof(line), trace) != NULL) {
    uint32_t blocks[REQUEST_MAX];
    uint32_t count = parse_request(line, blocks);
    while (count > 0) reference(&c, blocks[--count]); /* tail first, as the engine does */
  }
  neap__stream_close(c.stream);
  fclose(trace);
  assert_int_equal(c.references, REFERENCES);
  return (double)c.hits / REFERENCES;
}

static void expect_ratio(const char *policy, uint32_t capacity, double expected, double tolerance) {
  double ratio = hit_ratio(policy, capacity);
  print_message("%s, %u blocks: %.6f (libCacheSim %.6f)\n", policy, capacity, ratio, expected);
  assert_true(ratio > expected - tolerance && ratio < expected + tolerance);
}

static void lru_hits_as_often_as_libcachesims(void **state) {
  (void)state;
  expect_ratio("LRU", 61, 0.284931, 0.0005);
  expect_ratio("LRU", 308, 0.651947, 0.0005);
  expect_ratio("LRU", 616, 0.898626, 0.0005);
  expect_ratio("LRU", 1540, 0.899311, 0.0005);
}

static void isolated_lru_of_one_tenant_hits_as_often_as_lru(void **state) {
  (void)state;
  expect_ratio("IsolatedLRU", 61, 0.284931, 0.0005);
  expect_ratio("IsolatedLRU", 308, 0.651947, 0.0005);
}

static void arc_hits_as_often_as_libcachesims(void **state) {
  (void)state;
  expect_ratio("ARC", 61, 0.320294, 0.01);
  expect_ratio("ARC", 308, 0.680163, 0.01);
  expect_ratio("ARC", 616, 0.896292, 0.01);
  expect_ratio("ARC", 1540, 0.897418, 0.01);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lru_hits_as_often_as_libcachesims),
      cmocka_unit_test(isolated_lru_of_one_tenant_hits_as_often_as_lru),
      cmocka_unit_test(arc_hits_as_often_as_libcachesims),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
