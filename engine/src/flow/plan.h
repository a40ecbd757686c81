/* SPDX-License-Identifier: MIT
 *
 * flow/plan.h - what the journeys show a policy that they ask for a plan. Loop thread. */
#pragma once
#include <neap/policy.h>

#include "chunk/key.h"
#include "l2/tier_set.h"

/* The tiers as plans see them, by index; a slot without a tier that may be given work is nameless and not healthy.
 * Returns how many views there are. Names are valid until the caller is back in the loop. */
uint32_t neap__plan_tiers(neap__tier_set *tiers, neap_tier_view views[NEAP_TIERS_MAX]);

/* A chunk, whose recompute_us and hits the stream fills in. */
neap_plan_chunk neap__plan_chunk(const neap__key *key, uint32_t slot, uint64_t bytes, uint32_t pos);
