/* SPDX-License-Identifier: MIT
 *
 * policy/sketch.h - how often a name was seen lately, roughly: a count-min sketch (Cormode and Muthukrishnan, "An
 * Improved Data Stream Summary: The Count-Min Sketch and its Applications", J. Algorithms 2005) of four rows of 4-bit
 * counters, aged by halving all of them as in TinyLFU (Einziger, Friedman and Manes, ACM Transactions on Storage 2017).
 *
 * Counts saturate at 15. Only the smallest of a name's four counters grow (Estan and Varghese's conservative update),
 * which errs less. 8 bytes per name that it is made for. One thread at a time. */
#pragma once
#include "base/base.h"

typedef struct neap__sketch {
  uint64_t *words; /* [mask + 1] of 16 counters */
  uint32_t mask;
} neap__sketch;

bool neap__sketch_open(neap__sketch *sketch, uint32_t names);
void neap__sketch_close(neap__sketch *sketch);
void neap__sketch_add(neap__sketch *sketch, uint64_t name);
uint32_t neap__sketch_estimate(const neap__sketch *sketch, uint64_t name);
void neap__sketch_halve(neap__sketch *sketch);
