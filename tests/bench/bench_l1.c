/* SPDX-License-Identifier: MIT
 *
 * What L1 costs when nothing is copied: nanoseconds of its calls over an index of many objects, and resident bytes of
 * its bookkeeping per object. One line of JSON on stdout. Arguments: [objects] [batches]. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "l1/l1.h"

#define PREFIX 16u
#define OBJECT_BYTES 4096u
#define BATCH 16u

static uint64_t state = 42;

static uint64_t next_random(void) { /* splitmix64: Steele, Lea, Flood, 2014 */
  uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static neap__key key_of(uint64_t n) {
  neap__key key = {.rank = neap__rank(1, 0)};
  for (size_t i = 0; i < sizeof key.hash; i += 8) {
    uint64_t word = (n + 1) * UINT64_C(0x9e3779b97f4a7c15) + i * UINT64_C(0xbf58476d1ce4e5b9);
    word ^= word >> 29;
    memcpy(key.hash + i, &word, sizeof word);
  }
  return key;
}

static uint64_t resident_bytes(void) {
  unsigned long long total, resident;
  FILE *f = fopen("/proc/self/statm", "r");
  bool ok = f && fscanf(f, "%llu %llu", &total, &resident) == 2;
  if (f) fclose(f);
  return ok ? resident * 4096 : 0;
}

static void must(bool holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "bench_l1: %s\n", what);
  exit(1);
}

static const neap__owner owner = {.kind = NEAP_OWNER_LOCAL};

static void store(neap__l1 *l1, uint64_t n) {
  neap__key key = key_of(n);
  uint64_t bytes = OBJECT_BYTES;
  neap__lease lease;
  int result;
  must(neap__l1_reserve(l1, 1, &key, &bytes, 0, &owner, &lease, &result) == 0 && result == 0, "no room for an object");
  must(neap__l1_commit(l1, lease, NULL, NULL, 0, NULL) == 0, "an object was not committed");
}

static int by_value(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* Prefixes of random prompts; cold ones are spread over the whole index, hot ones over few. The median of the batches:
 * a batch is long for the clock and short for the scheduler. */
static double acquire_release(neap__l1 *l1, uint64_t prompts, uint64_t batches, bool touch) {
  static neap__key keys[BATCH][PREFIX];
  neap__lease leases[PREFIX];
  int held = PREFIX;
  uint64_t *spent = calloc(batches, sizeof *spent);
  must(spent != NULL, "out of memory");
  for (uint64_t b = 0; b < batches; b++) {
    for (uint32_t r = 0; r < BATCH; r++) {
      uint64_t prompt = next_random() % prompts;
      for (uint64_t i = 0; i < PREFIX; i++) keys[r][i] = key_of(prompt * PREFIX + i);
    }
    uint64_t begin = neap__now_ns();
    for (uint32_t r = 0; r < BATCH; r++) {
      int got = neap__l1_acquire(l1, PREFIX, keys[r], &owner, 1, true, leases);
      held = NEAP_MIN(held, got);
      if (touch) neap__l1_touch(l1, PREFIX, keys[r], PREFIX, 1);
      for (uint32_t i = 0; i < PREFIX; i++) neap__l1_release(l1, leases[i], 1);
    }
    spent[b] = neap__now_ns() - begin;
  }
  must(held == PREFIX, "an object is missing");
  qsort(spent, batches, sizeof *spent, by_value);
  double median = (double)spent[batches / 2] / BATCH;
  free(spent);
  return median;
}

static void count_event(void *ctx, const neap_event *events, uint32_t count) {
  (void)events;
  *(uint64_t *)ctx += count;
}

int main(int argc, char **argv) {
  uint64_t objects = argc > 1 ? strtoull(argv[1], NULL, 10) : 300000;
  static _Atomic uint32_t wanted; /* nothing optional at first */
  uint64_t batches = argc > 2 ? strtoull(argv[2], NULL, 10) : 5000, prompts = objects / PREFIX, events = 0;
  must(prompts > 0 && objects < (1u << 27) && batches > 0, "expected 16 or more objects and a batch");
  neap__l1_config config = {.pool_bytes = (objects + 1024) * OBJECT_BYTES,
                            .align_bytes = OBJECT_BYTES,
                            .chunk_tokens = 256,
                            .slots_max = (uint32_t)objects + 1024,
                            .emit = count_event,
                            .emit_ctx = &events,
                            .wanted = &wanted};
  neap__l1 *l1;
  neap_error err = {""};
  must(neap__l1_open(&config, &l1, NULL, &err) == 0, err.text);

  neap_memory memory;
  neap__l1_memory(l1, &memory);
  memset(memory.base, 1, memory.bytes); /* so that what grows from here on is bookkeeping */
  uint64_t before = resident_bytes(), begin = neap__now_ns();
  for (uint64_t n = 0; n < objects; n++) store(l1, n);
  double store_ns = (double)(neap__now_ns() - begin) / (double)objects;
  double metadata = (double)(resident_bytes() - before) / (double)objects;

  double cold = acquire_release(l1, prompts, batches, false), hot = acquire_release(l1, 16, batches, false);
  double touched = acquire_release(l1, 16, batches, true);
  wanted = NEAP_WANTS(PIN) | NEAP_WANTS(UNPIN);
  double pinned = acquire_release(l1, 16, batches, false);
  must(neap__l1_check(l1, &err) == 0, err.text);
  printf("{\"bench\":\"l1\",\"objects\":%" PRIu64
         ",\"reserve_commit_ns\":%.0f,\"acquire_release_16_ns\":%.0f,"
         "\"acquire_release_16_cold_ns\":%.0f,\"acquire_touch_release_16_ns\":%.0f,\"acquire_release_16_told_ns\":%.0f,"
         "\"metadata_bytes\":%.0f}\n",
         objects, store_ns, hot, cold, touched, pinned, metadata);
  neap__l1_close(l1, false);
  return 0;
}
