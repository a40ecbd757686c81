/* SPDX-License-Identifier: MIT
 *
 * replay/tiers.h - second-level tiers in a replay, of names only: what is stored, what a request can load, what it
 * costs.
 *
 * A tier is an LRU of its own over what was stored to it or loaded from it. What the engine would do is what happens,
 * unless the policy has a plan: everything is stored to every tier, what L1 lacks is loaded from the first tier that
 * has it and stays. Stores cost writes, not time: they are behind the request's back. A tier belongs to one run and its
 * thread. */
#pragma once
#include "policy/ghost_cache.h"

#define NEAP__REPLAY_TIERS 4u

/* us_per_kib and first_us: of a chunk, and of the first chunk that a request loads. */
typedef struct neap__replay_tier {
  char name[24];
  uint64_t capacity; /* in the units of the trace */
  double us_per_kib, first_us;
} neap__replay_tier;

typedef struct neap__replay_tier_stats {
  uint64_t loads, stores, evictions; /* chunks */
  uint64_t loaded_kib, stored_kib;
} neap__replay_tier_stats;

typedef struct neap__replay_tiers neap__replay_tiers;

/* lineage: of the requests; chunk_kib: size of a chunk of which no size is told. 0 or NEAP_ENOMEM. */
int neap__replay_tiers_open(const neap__replay_tier *tiers, uint32_t count, const neap__lineage *lineage,
                            double chunk_kib, neap_cost cost, neap__replay_tiers **out);
void neap__replay_tiers_close(neap__replay_tiers *tiers);

/* What a request made of L1 and the tiers together. usable: the chunks that it did not recompute; load_us: what the
 * tiers took to bring those that L1 lacked; loaded: how many. */
typedef struct neap__replay_tiers_answer {
  neap__ghost_answer l1;
  uint32_t usable, loaded;
  double load_us;
} neap__replay_tiers_answer;

/* Instead of neap__ghost_use: asks the cache's policy for its plans, lets the request use the cache, loads and
 * stores. */
int neap__replay_tiers_use(neap__replay_tiers *tiers, neap__ghost_cache *cache, neap__ghost_request *request,
                           neap__replay_tiers_answer *answer);

void neap__replay_tiers_stats(const neap__replay_tiers *tiers, neap__replay_tier_stats out[NEAP__REPLAY_TIERS]);
