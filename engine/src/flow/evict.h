/* SPDX-License-Identifier: MIT
 *
 * flow/evict.h - the journey out: keeps L1 below its watermark and tenants below their quota, and makes room at once
 * for a writer that finds L1 full.
 *
 * Victims come from the policy; each is checked by L1 (alive, unpinned) and reported back. The loop thread works ahead
 * of demand; neap__evictor_reserve may evict on the caller's thread, so that a full L1 is never an answer while
 * something unpinned is in it. */
#pragma once
#include "base/loop.h"
#include "l1/l1.h"
#include "policy/stream.h"

typedef struct neap__evictor neap__evictor;

typedef struct neap__evictor_config {
  neap__l1 *l1;
  neap__stream *stream;
  neap__loop *loop;
  double watermark; /* eviction starts at used/total >= watermark */
  double ratio;     /* and goes on until usage is below watermark, at most this share of L1 in one pass */
} neap__evictor_config;

int neap__evictor_open(const neap__evictor_config *config, neap__evictor **out);
void neap__evictor_close(neap__evictor *evictor); /* not on the loop thread */

/* neap__l1_reserve, making room when L1 is full. Same results. Any thread. */
int neap__evictor_reserve(neap__evictor *evictor, uint32_t count, const neap__key *keys, const uint64_t *bytes,
                          uint32_t flags, const neap__owner *owner, neap__lease *leases, int *results);

/* Says that L1 has grown: if the watermark or a quota is passed, the loop thread starts a pass. Cheap. Any thread. */
void neap__evictor_check(neap__evictor *evictor);

/* Quotas: bytes that a tenant may keep in L1; soft (a write is never refused, eviction follows). A tenant without a
 * quota is bounded by L1 alone. Any thread. */
void neap__quota_set(neap__evictor *evictor, uint32_t tenant, double limit_gb);
bool neap__quota_remove(neap__evictor *evictor, uint32_t tenant);                /* false: there was none */
bool neap__quota_get(neap__evictor *evictor, uint32_t tenant, double *limit_gb); /* false: none */
void neap__quota_each(neap__evictor *evictor, void (*visit)(void *ctx, uint32_t tenant, double limit_gb), void *ctx);

typedef struct neap__evictor_stats {
  uint64_t passes, triggered, demand_evictions, kept_proposals, failures;
} neap__evictor_stats;
void neap__evictor_stats_get(neap__evictor *evictor, neap__evictor_stats *out);
