/* SPDX-License-Identifier: MIT
 *
 * policies/sketch.c - ten counters of a name, by double hashing (Kirsch and Mitzenmacher, "Less Hashing, Same
 * Performance: Building a Better Bloom Filter", Random Structures & Algorithms 2008) with XXH64 (Collet, the xxHash
 * specification). */
#include "policies/sketch.h"

#include <math.h>
#include <stdlib.h>

#define HASHES 10u
#define PER_NAME 14.377587566 /* -ln(0.001) / ln(2)^2, and ln(2) times that is HASHES, rounded up */
#define MOST UINT16_MAX

static uint64_t rotate(uint64_t x, unsigned by) { return x << by | x >> (64 - by); }

/* XXH64 of eight bytes. */
static uint64_t xxh64(uint64_t input, uint64_t seed) {
  const uint64_t p1 = UINT64_C(0x9e3779b185ebca87), p2 = UINT64_C(0xc2b2ae3d27d4eb4f),
                 p3 = UINT64_C(0x165667b19e3779f9), p4 = UINT64_C(0x85ebca77c2b2ae63),
                 p5 = UINT64_C(0x27d4eb2f165667c5);
  uint64_t h = seed + p5 + sizeof(input);
  h ^= rotate(input * p2, 31) * p1;
  h = rotate(h, 27) * p1 + p4;
  h = (h ^ h >> 33) * p2;
  h = (h ^ h >> 29) * p3;
  return h ^ h >> 32;
}

typedef struct probe {
  uint32_t at, step;
} probe;

/* Names count from 1: a trace that numbers its blocks from 0 is read as libCacheSim's users number them. */
static probe probe_of(uint32_t h1, uint32_t h2) {
  uint64_t name = ((uint64_t)h2 << 32 | h1) + 1;
  return (probe){(uint32_t)xxh64(name, 0x12345678), (uint32_t)xxh64(name, 0x12344321)};
}

uint32_t neap__sketch_counters(uint32_t names) {
  double count = ceil(PER_NAME * NEAP_MAX(names, 1));
  return (uint32_t)NEAP_MIN(NEAP_MAX(count, 2 * HASHES), UINT32_MAX);
}

bool neap__sketch_open(neap__sketch *sketch, uint32_t names) {
  sketch->count = neap__sketch_counters(names);
  sketch->counters = calloc(sketch->count, sizeof(*sketch->counters));
  return sketch->counters != NULL;
}

void neap__sketch_close(neap__sketch *sketch) { free(sketch->counters); }

void neap__sketch_add(neap__sketch *sketch, uint32_t h1, uint32_t h2) {
  probe p = probe_of(h1, h2);
  for (uint32_t i = 0; i < HASHES; i++, p.at += p.step) {
    uint16_t *counter = &sketch->counters[p.at % sketch->count];
    if (*counter < MOST) (*counter)++;
  }
}

uint32_t neap__sketch_estimate(const neap__sketch *sketch, uint32_t h1, uint32_t h2) {
  probe p = probe_of(h1, h2);
  uint32_t least = MOST;
  for (uint32_t i = 0; i < HASHES; i++, p.at += p.step) {
    uint32_t counter = sketch->counters[p.at % sketch->count];
    least = NEAP_MIN(least, counter);
  }
  return least;
}

void neap__sketch_halve(neap__sketch *sketch) {
  for (uint32_t i = 0; i < sketch->count; i++) sketch->counters[i] >>= 1;
}
