/* SPDX-License-Identifier: MIT
 *
 * flow/plan.c - see plan.h. */
#include "flow/plan.h"

#include <string.h>

static neap_tier_view view_of(neap__tier *tier) {
  neap__tier_stats stats;
  neap__tier_stats_get(tier, &stats);
  return (neap_tier_view){.name = neap__tier_config_of(tier)->name,
                          .store_us_per_mib = stats.store_us_per_mib,
                          .load_us_per_mib = stats.load_us_per_mib,
                          .load_first_us = stats.load_first_us,
                          .used_bytes = stats.used_bytes,
                          .capacity_bytes = stats.capacity_bytes,
                          .in_flight = stats.in_flight_objects,
                          .healthy = stats.healthy};
}

uint32_t neap__plan_tiers(neap__tier_set *tiers, neap_tier_view views[NEAP_TIERS_MAX]) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < NEAP_TIERS_MAX; i++) {
    neap__tier *tier = neap__tier_set_route(tiers, i);
    views[i] = tier ? view_of(tier) : (neap_tier_view){.name = ""};
    if (tier) count = i + 1;
  }
  return count;
}

neap_plan_chunk neap__plan_chunk(const neap__key *key, uint32_t slot, uint64_t bytes, uint32_t pos) {
  neap_plan_chunk chunk = {.slot = slot, .kib = (uint32_t)((bytes + 1023) / 1024), .pos = pos};
  memcpy(&chunk.h1, key->hash, sizeof(chunk.h1));
  memcpy(&chunk.h2, key->hash + sizeof(chunk.h1), sizeof(chunk.h2));
  return chunk;
}
