/* SPDX-License-Identifier: MIT
 *
 * policies/splitmix.h - SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA
 * 2014): a mixer and a generator, the same numbers for the same seed everywhere. Not for secrets. */
#pragma once
#include <stdint.h>

static inline uint64_t neap__mix64(uint64_t x) {
  x += UINT64_C(0x9e3779b97f4a7c15);
  x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
  return x ^ x >> 31;
}

/* 0 .. below - 1; below is at least 1. */
static inline uint32_t neap__random_below(uint64_t *state, uint32_t below) {
  uint64_t x = neap__mix64(*state);
  *state += UINT64_C(0x9e3779b97f4a7c15);
  return (uint32_t)((x >> 32) * below >> 32);
}
