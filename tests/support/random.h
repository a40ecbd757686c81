/* SPDX-License-Identifier: MIT
 *
 * support/random.h - the random numbers of a test: seeded from NEAP_SEED or the clock, and printed, so that a failure
 * can be run again. One thread; a test with threads gives each its own state. */
#pragma once
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
static inline uint64_t random_next(uint64_t *state) {
  uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

/* 0 .. below-1. */
static inline uint32_t random_below(uint64_t *state, uint32_t below) {
  return (uint32_t)((random_next(state) >> 32) * below >> 32);
}

static inline uint64_t random_seed(const char *test) {
  struct timespec now;
  const char *given = getenv("NEAP_SEED");
  clock_gettime(CLOCK_REALTIME, &now);
  uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
  printf("%s: NEAP_SEED=%" PRIu64 "\n", test, seed);
  fflush(stdout);
  return seed;
}
