/* SPDX-License-Identifier: MIT
 *
 * lab/tally.h - what lookups asked for and found, in total and over the last ones. One thread at a time. */
#pragma once
#include "base/base.h"

/* Chunks, but `requests`. A request counts if it began with a lookup. */
typedef struct neap__tally {
  uint64_t requests;
  uint64_t asked;    /* whole chunks of the prompts */
  uint64_t found;    /* in the usable prefix of the live engine, from wherever */
  uint64_t found_l1; /* of which L1 had by itself */
  uint64_t prefix;   /* in the usable prefix of a ghost cache of L1's size */
  uint64_t hits;     /* in that ghost cache, behind gaps too */
} neap__tally;

#define NEAP__WINDOW_PARTS 16u

/* A sliding window of requests: the oldest sixteenth goes at once. */
typedef struct neap__window {
  uint64_t requests_max; /* 0: not in use */
  uint32_t now;
  neap__tally part[NEAP__WINDOW_PARTS];
} neap__window;

static inline void neap__tally_add(neap__tally *to, const neap__tally *more) {
  to->requests += more->requests;
  to->asked += more->asked;
  to->found += more->found;
  to->found_l1 += more->found_l1;
  to->prefix += more->prefix;
  to->hits += more->hits;
}

static inline void neap__window_add(neap__window *w, const neap__tally *more) {
  if (w->part[w->now].requests >= (w->requests_max + NEAP__WINDOW_PARTS - 1) / NEAP__WINDOW_PARTS) {
    w->now = (w->now + 1) % NEAP__WINDOW_PARTS;
    w->part[w->now] = (neap__tally){0};
  }
  neap__tally_add(&w->part[w->now], more);
}

static inline neap__tally neap__window_sum(const neap__window *w) {
  neap__tally sum = {0};
  for (uint32_t i = 0; i < NEAP__WINDOW_PARTS; i++) neap__tally_add(&sum, &w->part[i]);
  return sum;
}
