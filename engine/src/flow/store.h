/* SPDX-License-Identifier: MIT
 *
 * flow/store.h - the journey down: from a commit in L1 to every L2 tier.
 *
 * An offered object is leased (so that it stays) and queued; the loop thread hands batches to each tier and ends the
 * lease when the last tier is done. The queue is bounded in bytes: past the bound an object stays in L1 only, counted
 * and logged. A store that fails is counted by reason; the L1 copy stays. */
#pragma once
#include "base/loop.h"
#include "l1/l1.h"
#include "l2/tier_set.h"

typedef struct neap__storer neap__storer;

typedef struct neap__storer_config {
  neap__l1 *l1;
  neap__loop *loop;
  neap__tier_set *tiers;
  uint64_t pending_bytes_max; /* bytes leased by queued and running stores */
  bool skip_l1;               /* drop the L1 copy once every tier has it (--l2-store-policy skip_l1) */
} neap__storer_config;

int neap__storer_open(const neap__storer_config *config, neap__storer **out);
/* Waits for what was offered, at most grace_ms; then lets go of what is queued, and the last of the stores in flight
 * frees the storer. No offer may be under way. Before the tiers close. Not on the loop thread. */
void neap__storer_close(neap__storer *storer, uint64_t grace_ms);

/* Offers committed objects to L2. Any thread; never blocks. Without tiers it is a no-op. */
void neap__storer_offer(neap__storer *storer, uint32_t count, const neap__key *keys);

typedef struct neap__storer_stats {
  uint64_t submitted, submitted_objects, completed, completed_objects, failed_objects;
  uint64_t refused_objects, refused_bytes; /* queue full */
  uint64_t pending_bytes;
  uint32_t pending_objects, in_flight;
} neap__storer_stats;
void neap__storer_stats_get(neap__storer *storer, neap__storer_stats *out);
