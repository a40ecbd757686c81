/* SPDX-License-Identifier: MIT
 *
 * flow/store.h - the journey down: from a commit in L1 to every L2 tier.
 *
 * An offered object is leased (so that it stays) and queued; the loop thread asks the policy for a plan, if it makes
 * any, hands batches to each tier that the plan names, and ends the lease when the last tier is done. The queue is
 * bounded in bytes: past the bound an object stays in L1 only, counted and logged. A store that fails is counted by
 * reason; the L1 copy stays. */
#pragma once
#include "base/loop.h"
#include "flow/known.h"
#include "l1/l1.h"
#include "l2/tier_set.h"

typedef struct neap__storer neap__storer;

typedef struct neap__storer_config {
  neap__l1 *l1;
  neap__loop *loop;
  neap__tier_set *tiers;
  neap__stream *stream;
  neap__known *known;
  uint64_t pending_bytes_max; /* bytes leased by queued and running stores */
  bool skip_l1;               /* drop the L1 copy once every tier has it (--l2-store-policy skip_l1) */
} neap__storer_config;

int neap__storer_open(const neap__storer_config *config, neap__storer **out);
/* Waits for what was offered, at most grace_ms; then lets go of what is queued, and the last of the stores in flight
 * frees the storer. No offer may be under way. Before the tiers close. Not on the loop thread. */
void neap__storer_close(neap__storer *storer, uint64_t grace_ms);

/* Offers committed objects to L2: of one request, one rank and one tenant, head of the prompt first; at[i] is where the
 * chunk of keys[i] stands in the prompt, NULL: i. Any thread; never blocks. Without tiers it is a no-op. */
void neap__storer_offer(neap__storer *storer, uint32_t request, uint32_t count, const neap__key *keys,
                        const uint32_t *at);

typedef struct neap__storer_stats {
  uint64_t submitted, submitted_objects, completed, completed_objects, failed_objects;
  uint64_t refused_objects, refused_bytes; /* queue full */
  uint64_t planned_out_objects;            /* that a plan kept from a tier, counted for each tier */
  uint64_t pending_bytes;
  uint32_t pending_objects, in_flight;
} neap__storer_stats;
void neap__storer_stats_get(neap__storer *storer, neap__storer_stats *out);
