/* SPDX-License-Identifier: MIT
 *
 * flow/evict.c - see evict.h. Passes run on the loop thread; making room for a writer runs on the writer's. Both use
 * evict_some, one batch of victims at a time. */
#include "flow/evict.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define GB (1024.0 * 1024.0 * 1024.0)
#define BATCH 32u
#define QUOTAS_MAX 65536u

typedef struct quota {
  uint32_t tenant;
  double limit_gb;
} quota;

struct neap__evictor {
  neap__evictor_config config;
  uint64_t pool_bytes, align_bytes;
  neap__job job;
  atomic_bool posted;
  bool closing; /* loop thread */
  uint64_t logged_ns;
  pthread_mutex_t victim_lock; /* from a proposal to what became of it: nobody finds none because others have them */
  _Atomic uint64_t freed;
  pthread_mutex_t quota_lock;
  quota *quotas;
  _Atomic uint32_t quota_count;
  uint32_t quota_room;
  _Atomic uint64_t passes, triggered, demand_evictions, kept_proposals, failures;
};

/* How many victims to ask for: about as many as it takes, for a victim that is named and then spared has lost its place
 * in the policy's order. */
static uint32_t victims_for(neap__evictor *ev, uint64_t bytes, uint32_t objects) {
  uint64_t average = (uint64_t)(neap__l1_usage(ev->config.l1) * (double)ev->pool_bytes) / NEAP_MAX(objects, 1) + 1;
  return (uint32_t)NEAP_MIN(NEAP_MAX(bytes / average, 1), BATCH);
}

/* Evicts at least `want` bytes of scope if it can; returns how many. Proposals are bounded by the number of objects, so
 * that a cache full of leases ends the search. */
static uint64_t evict_some(neap__evictor *ev, uint32_t scope, uint64_t want) {
  uint64_t freed = 0;
  uint32_t slots[BATCH], objects = neap__l1_objects(ev->config.l1);
  for (uint64_t proposals = 0; freed < want && proposals <= objects;) {
    pthread_mutex_lock(&ev->victim_lock);
    uint32_t count = neap__stream_victims(ev->config.stream, scope, slots, victims_for(ev, want - freed, objects));
    proposals += count;
    for (uint32_t i = 0; i < count; i++) {
      int64_t bytes = neap__l1_evict(ev->config.l1, slots[i]);
      if (bytes > 0) {
        freed += (uint64_t)bytes;
        atomic_fetch_add(&ev->freed, (uint64_t)bytes);
      } else if (bytes == NEAP_EBUSY) {
        neap__stream_keep(ev->config.stream, slots[i]);
        atomic_fetch_add(&ev->kept_proposals, 1);
      }
    }
    pthread_mutex_unlock(&ev->victim_lock);
    if (count == 0) break;
  }
  return freed;
}

/* --- ahead of demand ------------------------------------------------------------------------------------------ */

static void enforce_quotas(neap__evictor *ev) {
  for (uint32_t i = 0; i < atomic_load(&ev->quota_count); i++) {
    pthread_mutex_lock(&ev->quota_lock);
    quota q = i < atomic_load(&ev->quota_count) ? ev->quotas[i] : (quota){.limit_gb = 1e18};
    pthread_mutex_unlock(&ev->quota_lock);
    uint64_t used = neap__l1_tenant_bytes(ev->config.l1, q.tenant);
    if ((double)used > q.limit_gb * GB) {
      NEAP_LOG_INFO("tenant %u over quota (bytes=%llu, limit=%.0f); evicting", q.tenant, (unsigned long long)used,
                    q.limit_gb * GB);
      evict_some(ev, q.tenant, used - (uint64_t)(q.limit_gb * GB));
    }
  }
}

/* A pass frees a little more than it must (a tenth of `ratio`), so that passes do not follow every single commit. */
static void pass(neap__job *job) {
  neap__evictor *ev = (neap__evictor *)((char *)job - offsetof(neap__evictor, job));
  atomic_store(&ev->posted, false);
  atomic_fetch_add(&ev->passes, 1);
  if (atomic_load(&ev->quota_count)) enforce_quotas(ev);
  double usage = neap__l1_usage(ev->config.l1);
  if (usage < ev->config.watermark) return;
  atomic_fetch_add(&ev->triggered, 1);
  uint64_t now = neap__now_ns();
  if (now - ev->logged_ns >= 1000000000u) {
    ev->logged_ns = now;
    NEAP_LOG_INFO("L1 memory usage %.2f above watermark %.2f; triggering eviction.", usage, ev->config.watermark);
  }
  neap__stream_full(ev->config.stream);
  double share = NEAP_MIN(usage - ev->config.watermark + ev->config.ratio * 0.1, ev->config.ratio);
  uint64_t freed = evict_some(ev, NEAP_SCOPE_ALL, (uint64_t)(share * (double)ev->pool_bytes));
  if (freed && !ev->closing) neap__evictor_check(ev); /* the next pass, after what else the loop has to do */
}

void neap__evictor_check(neap__evictor *ev) {
  if (neap__l1_usage(ev->config.l1) < ev->config.watermark && !atomic_load(&ev->quota_count)) return;
  if (!atomic_exchange(&ev->posted, true)) neap__loop_post(ev->config.loop, &ev->job);
}

/* --- on demand ------------------------------------------------------------------------------------------------ */

/* What a reserve that failed was short of: bytes as L1 takes them. False if eviction cannot provide it. */
static bool shortage(const neap__evictor *ev, uint32_t count, const uint64_t *bytes, const int *results, uint64_t *need,
                     uint64_t *largest, uint32_t *objects) {
  *need = *largest = *objects = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (results[i] == NEAP_ELIMIT) return false; /* there was room, but no lease */
    if (results[i]) continue;
    uint64_t rounded = (bytes[i] + ev->align_bytes - 1) / ev->align_bytes * ev->align_bytes;
    *need += rounded;
    *largest = NEAP_MAX(*largest, rounded);
    ++*objects;
  }
  return *need <= ev->pool_bytes;
}

/* First what the policy would let go. If the room that made lies scattered, whole windows; for a single object that is
 * all there is to try, several may each need their own. */
static bool make_room(neap__evictor *ev, uint64_t need, uint64_t largest, bool single, uint32_t attempt) {
  if (attempt == 0) {
    neap__stream_full(ev->config.stream);
    return evict_some(ev, NEAP_SCOPE_ALL, need) > 0;
  }
  bool more = !single && evict_some(ev, NEAP_SCOPE_ALL, largest) > 0;
  return neap__l1_evict_window(ev->config.l1, largest) == 0 || more;
}

int neap__evictor_reserve(neap__evictor *ev, uint32_t count, const neap__key *keys, const uint64_t *bytes,
                          uint32_t flags, const neap__owner *owner, neap__lease *leases, int *results) {
  for (uint32_t attempt = 0;; attempt++) {
    uint64_t freed = atomic_load(&ev->freed);
    int rc = neap__l1_reserve(ev->config.l1, count, keys, bytes, flags, owner, leases, results);
    if (rc != NEAP_ENOSPC && rc != NEAP_ELIMIT) return rc;
    uint64_t need, largest;
    uint32_t objects;
    if (attempt > count + 8 || !shortage(ev, count, bytes, results, &need, &largest, &objects) ||
        (!make_room(ev, need, largest, objects == 1 && rc == NEAP_ENOSPC, attempt) &&
         atomic_load(&ev->freed) == freed)) { /* else another thread made room meanwhile */
      atomic_fetch_add(&ev->failures, 1);
      return rc;
    }
    atomic_fetch_add(&ev->demand_evictions, 1);
  }
}

/* --- quotas --------------------------------------------------------------------------------------------------- */

static uint32_t quota_find(neap__evictor *ev, uint32_t tenant) {
  uint32_t i = 0;
  while (i < atomic_load(&ev->quota_count) && ev->quotas[i].tenant != tenant) i++;
  return i;
}

void neap__quota_set(neap__evictor *ev, uint32_t tenant, double limit_gb) {
  pthread_mutex_lock(&ev->quota_lock);
  uint32_t i = quota_find(ev, tenant);
  if (i == ev->quota_room && i < QUOTAS_MAX) {
    quota *grown = realloc(ev->quotas, (ev->quota_room * 2 + 16) * sizeof *grown);
    if (grown) ev->quotas = grown, ev->quota_room = ev->quota_room * 2 + 16;
  }
  if (i < ev->quota_room) {
    ev->quotas[i] = (quota){.tenant = tenant, .limit_gb = limit_gb};
    if (i == atomic_load(&ev->quota_count)) atomic_fetch_add(&ev->quota_count, 1);
  }
  pthread_mutex_unlock(&ev->quota_lock);
  neap__evictor_check(ev);
}

bool neap__quota_remove(neap__evictor *ev, uint32_t tenant) {
  pthread_mutex_lock(&ev->quota_lock);
  uint32_t i = quota_find(ev, tenant), count = atomic_load(&ev->quota_count);
  bool found = i < count;
  if (found) {
    ev->quotas[i] = ev->quotas[count - 1];
    atomic_store(&ev->quota_count, count - 1);
  }
  pthread_mutex_unlock(&ev->quota_lock);
  return found;
}

bool neap__quota_get(neap__evictor *ev, uint32_t tenant, double *limit_gb) {
  pthread_mutex_lock(&ev->quota_lock);
  uint32_t i = quota_find(ev, tenant);
  bool found = i < atomic_load(&ev->quota_count);
  if (found) *limit_gb = ev->quotas[i].limit_gb;
  pthread_mutex_unlock(&ev->quota_lock);
  return found;
}

void neap__quota_each(neap__evictor *ev, void (*visit)(void *ctx, uint32_t tenant, double limit_gb), void *ctx) {
  pthread_mutex_lock(&ev->quota_lock);
  for (uint32_t i = 0; i < atomic_load(&ev->quota_count); i++) visit(ctx, ev->quotas[i].tenant, ev->quotas[i].limit_gb);
  pthread_mutex_unlock(&ev->quota_lock);
}

/* --- open, close, look ---------------------------------------------------------------------------------------- */

int neap__evictor_open(const neap__evictor_config *config, neap__evictor **out) {
  neap__evictor *ev = calloc(1, sizeof *ev);
  if (!ev) return NEAP_ENOMEM;
  ev->config = *config;
  ev->job.run = pass;
  neap_memory memory;
  neap__l1_memory(config->l1, &memory);
  ev->pool_bytes = memory.bytes;
  ev->align_bytes = memory.align_bytes;
  pthread_mutex_init(&ev->victim_lock, NULL);
  pthread_mutex_init(&ev->quota_lock, NULL);
  *out = ev;
  return 0;
}

static void begin_close(void *arg) { ((neap__evictor *)arg)->closing = true; }
void neap__evictor_close(neap__evictor *ev) {
  if (!ev) return;
  neap__loop_call(ev->config.loop, begin_close, ev); /* no pass posts another one */
  neap__loop_settle(ev->config.loop);                /* a posted pass has run when this returns */
  pthread_mutex_destroy(&ev->victim_lock);
  pthread_mutex_destroy(&ev->quota_lock);
  free(ev->quotas);
  free(ev);
}

void neap__evictor_stats_get(neap__evictor *ev, neap__evictor_stats *out) {
  *out = (neap__evictor_stats){.passes = atomic_load(&ev->passes),
                               .triggered = atomic_load(&ev->triggered),
                               .demand_evictions = atomic_load(&ev->demand_evictions),
                               .kept_proposals = atomic_load(&ev->kept_proposals),
                               .failures = atomic_load(&ev->failures)};
}
