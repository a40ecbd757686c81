/* SPDX-License-Identifier: MIT
 *
 * flow/load.h - loads from L2 into L1, one per key however many fetches want it ("single flight").
 *
 * All functions: loop thread only. */
#pragma once
#include "flow/evict.h"
#include "l2/tier_set.h"
#include "lab/fate.h"

typedef struct neap__loads neap__loads;

typedef struct neap__loads_config {
  neap__l1 *l1;
  neap__evictor *evictor;
  neap__tier_set *tiers;
  neap__fate *fate; /* hears of objects that were lost; may be NULL */
} neap__loads_config;

int neap__loads_open(const neap__loads_config *config, neap__loads **out);
/* Nothing may be in flight, but what adapters never gave back: then the table stays, for that refers to it. */
void neap__loads_close(neap__loads *loads);

/* One object that somebody wants. cell is the caller's number for it. */
typedef struct neap__load_item {
  neap__key key;
  uint64_t bytes;
  uint32_t tier, cell;
  uint32_t pos;   /* of the chunk in its prompt */
  bool temporary; /* keep the object only while somebody holds a lease */
} neap__load_item;

/* Who wants it. done is called once per item, possibly before neap__loads_start returns: result 0 and a lease that
 * belongs to owner (readers times), or an error and NEAP_NO_LEASE. ctx must live until then. */
typedef struct neap__load_for {
  neap__owner owner;
  uint32_t readers;
  uint64_t deadline_ms;
  void *ctx;
  void (*done)(void *ctx, uint32_t cell, neap__lease lease, int result);
} neap__load_for;

/* Starts what is not already on its way, in batches per tier; items whose tier holds a lock (neap__tier_lock) for them
 * lose it when their load ends. Buffers for all items are taken together; when L1 cannot hold them all, for the
 * longest run from the start that it can hold (the rest are NEAP_ENOSPC). */
void neap__loads_start(neap__loads *loads, const neap__load_item *items, uint32_t count, const neap__load_for *want);

typedef struct neap__loads_stats {
  uint64_t tasks, objects, loaded, out_of_room, not_found;
} neap__loads_stats;
/* Any thread. */
void neap__loads_stats_get(neap__loads *loads, neap__loads_stats *out);
