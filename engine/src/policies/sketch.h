/* SPDX-License-Identifier: MIT
 *
 * policies/sketch.h - how often a name was seen lately, roughly: a counting Bloom filter (Fan, Cao, Almeida and Broder,
 * "Summary Cache: A Scalable Wide-Area Web Cache Sharing Protocol", IEEE/ACM Transactions on Networking 2000), aged by
 * halving all counters as in TinyLFU (Einziger, Friedman and Manes, ACM Transactions on Storage 2017).
 *
 * An estimate is never less than the count since the last halving, up to 65535. For the number of names that it is made
 * for one in a thousand is overestimated; policies see many more. Sizes and hash functions are those of libCacheSim,
 * for on traffic of language models a policy that compares frequencies follows the errors of its sketch: other hash
 * functions move its hit ratio by 0.03 either way. 29 bytes per name. One thread at a time. */
#pragma once
#include "base/base.h"

typedef struct neap__sketch {
  uint16_t *counters;
  uint32_t count;
} neap__sketch;

/* How many counters a sketch for so many names has. */
uint32_t neap__sketch_counters(uint32_t names);

/* False if there is no memory. */
bool neap__sketch_open(neap__sketch *sketch, uint32_t names);
void neap__sketch_close(neap__sketch *sketch);

void neap__sketch_add(neap__sketch *sketch, uint32_t h1, uint32_t h2);
uint32_t neap__sketch_estimate(const neap__sketch *sketch, uint32_t h1, uint32_t h2);
void neap__sketch_halve(neap__sketch *sketch);
