/* SPDX-License-Identifier: MIT
 *
 * policy/ghost_cache.h - a cache of names only: what would be in L1 if a policy ruled over a given capacity.
 *
 * The unit of use is a whole request. Replays and shadows run the same code with the same policy files as the live
 * engine: events, tail-first order, checked victims, completion, hand-over. Not here: where requests come from. One
 * thread at a time. */
#pragma once
#include "policy/instance.h"
#include "policy/lineage.h"

typedef struct neap__ghost_cache neap__ghost_cache;

typedef struct neap__ghost_config {
  const neap_policy *policy;
  const char *params;
  const neap__lineage *lineage; /* borrowed; chunk numbers of requests are below `numbers` */
  uint32_t numbers;
  uint64_t capacity; /* in the unit of neap__ghost_request.units, or objects */
  uint32_t slots;    /* most objects at once; 0: capacity, or numbers if that is less */
  bool head_first;   /* touch the head of a prompt first (other simulators do); else the tail */
  uint32_t batch;    /* victims asked for at once when full; 0 = 1 */
  uint64_t seed;
  neap_cost cost;
} neap__ghost_config;

typedef struct neap__ghost_request {
  const uint32_t *chunk; /* [chunks] numbers, head of the prompt first */
  const uint32_t *next;  /* [chunks] when each is referenced next (neap_policy_context.next), or NULL */
  const uint32_t *units; /* by chunk number: size; NULL: each is 1 */
  const uint32_t *soon;  /* [soon_count] chunks of requests to come: their places are fetched meanwhile; may be NULL */
  const uint8_t *pass;   /* [chunks] not 0: used, but not kept if it is not there already; NULL: all are kept */
  uint32_t chunks, soon_count;
  uint32_t tenant, request, time_ms;
  uint64_t session;
} neap__ghost_request;

/* What a request found; hits and prefix before it changed anything. */
typedef struct neap__ghost_answer {
  uint32_t hits;    /* chunks there, wherever */
  uint32_t prefix;  /* chunks there without a gap from the first on: what an engine can use */
  uint32_t touched; /* chunks there at the moment of their touch, as neap__ghost_stats.hits counts */
} neap__ghost_answer;

typedef struct neap__ghost_stats {
  uint64_t requests, accesses, hits, prefix_hits; /* hits: at the moment of each touch, as other simulators count */
  uint64_t evictions, orphan_evictions;           /* orphaning: something resident continued the victim */
  uint64_t bypassed;                              /* chunks larger than the cache, or that nothing made room for */
  uint64_t used;                                  /* units */
  neap__instance_stats policy;
} neap__ghost_stats;

int neap__ghost_open(const neap__ghost_config *config, neap__ghost_cache **out, neap_error *err);
void neap__ghost_close(neap__ghost_cache *cache);
void neap__ghost_use(neap__ghost_cache *cache, const neap__ghost_request *request, neap__ghost_answer *answer);
/* The chunk of that number is forgotten; the number may mean another one from now on. Chunks that continue it have been
 * forgotten before. */
void neap__ghost_forget(neap__ghost_cache *cache, uint32_t number);
/* The slot of a chunk, NEAP_POLICY_NO_SLOT if it is not there. */
uint32_t neap__ghost_slot(const neap__ghost_cache *cache, uint32_t number);
/* A STORED or LOADED event of a chunk that is there; of another one: nothing. tier: the event's detail. */
void neap__ghost_tell(neap__ghost_cache *cache, neap_event_type type, uint32_t number, uint8_t tier);
/* Delivers what is buffered: before the instance is asked for a plan. */
void neap__ghost_flush(neap__ghost_cache *cache);
void neap__ghost_stats_get(neap__ghost_cache *cache, neap__ghost_stats *out);
neap__instance *neap__ghost_instance(neap__ghost_cache *cache);
