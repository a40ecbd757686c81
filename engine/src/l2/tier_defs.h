/* SPDX-License-Identifier: MIT
 *
 * l2/tier_defs.h - what the three files of a tier share: tier.c (life of a task), host.c (services for the adapter)
 * and keep.c (what is remembered about the store).
 *
 *   tier.c                         adapter                      host.c
 *     QUEUED -> PREPARING -> WITH_ADAPTER -- host->done --> RETURNED -> (digest) -> settled -> retired
 *
 * Members of neap__tier are of one of three kinds: fixed after open, of the loop thread, or under the lock. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "l2/catalogue.h"
#include "l2/tier.h"

#define NEAP_TIER_IN_FLIGHT_MAX 64u /* operations that the adapter has at once */
#define NEAP_TIER_WRITES_MAX 48u    /* of these, stores and removes: the rest is kept for what somebody waits for */
#define NEAP_TIER_QUEUED_MAX 1024u  /* operations that wait */
#define NEAP_TIER_QUEUED_BYTES_MAX (UINT64_C(1) << 30)
#define NEAP_TIER_DEADLINE_MS 30000u
#define NEAP_TIER_OBJECTS_MAX (1u << 20) /* remembered; see l2/catalogue.h for the memory */
#define NEAP_TIER_REMOVE_MAX 512u        /* objects of one remove by the framework */
#define NEAP_TIER_RETIRED_MAX 64u
#define NEAP_TIER_SICK_AFTER 5u /* failed operations in a row that make a tier unhealthy */

typedef enum neap__phase {
  NEAP_PHASE_QUEUED,
  NEAP_PHASE_PREPARING, /* checksums of what is to be stored are computed */
  NEAP_PHASE_WITH_ADAPTER,
  NEAP_PHASE_RETURNED,
} neap__phase;

/* The framework's side of a task: the operation as the adapter sees it. The submitter reads results in the task, the
 * adapter writes them here, so an adapter that is late cannot change an answer already given. */
typedef struct neap__flight {
  neap_op op; /* first: the adapter's pointer is found again by comparison only */
  neap__job job;
  neap__tier *tier;
  neap__task *task;
  struct neap__flight *next;                   /* in its queue */
  struct neap__flight *after, *before;         /* among those whose submitter waits */
  uint64_t deadline_ns, bytes, claimed, seq;   /* claimed: bytes that a store may add */
  void (*digest)(struct neap__flight *flight); /* run by the pool after the return; NULL: nothing to do */
  _Atomic neap__phase phase;
  bool expired;              /* the submitter has its answer */
  bool bounced;              /* the adapter never saw it */
  pthread_mutex_t sink_lock; /* LIST: no sink call after the answer */
  neap__key *ids;
  uint32_t *crcs;
  bool *has_crc;
  neap_object objects[];
} neap__flight;

typedef struct neap__flight_queue {
  neap__flight *first, *last;
} neap__flight_queue;

struct neap__tier {
  /* fixed after open */
  const neap__tier_config *config;
  const neap_adapter *adapter;
  void *self;
  neap__tier_env env;
  neap_host host;
  char name[64]; /* a copy, as the next one: an adapter left open outlives the configuration */
  char *plugin_dirs;
  /* loop thread */
  uv_timer_t timer;
  uint64_t wake_ns; /* when the timer fires, 0 = not armed */
  neap__flight *waiting;
  neap__flight_queue reads, writes;
  uint32_t queued, writes_in_flight;
  uint64_t queued_bytes, claimed;
  bool closing, removing, remove_failed, recovering; /* removing: victims are on their way out */
  /* under the lock */
  pthread_mutex_t lock;
  pthread_cond_t idle;
  neap__flight *flying[NEAP_TIER_IN_FLIGHT_MAX];
  uint32_t flying_count;
  neap__flight *retired[NEAP_TIER_RETIRED_MAX]; /* kept a while: a second done must not find a new operation there */
  uint32_t retired_next;
  neap__catalogue *catalogue;
  neap__tier_stats stats;
  uint64_t seq;
  uint32_t failures_in_row;
  bool timer_closed;
  bool abandoned; /* closed while the adapter still had operations */
};

/* tier.c */
void neap__tier_enqueue(neap__tier *tier, neap__task *task, uint64_t deadline_ns, bool ahead);
void neap__tier_pump(neap__tier *tier);
void neap__tier_arrived(neap__job *job); /* run by the loop after host->done */

/* host.c */
void neap__host_init(neap__tier *tier);

/* keep.c; loop thread. */
/* Whether a store of this flight fits into the capacity. When it does not, victims are sent for. */
bool neap__keep_room(neap__tier *tier, neap__flight *flight);
/* Fills crcs of a load; true if any of its objects can be verified. */
bool neap__keep_expect(neap__flight *flight);
/* Books what the adapter answered. Under the lock. */
void neap__keep_settle(neap__flight *flight);
/* Notes whether the adapter is able to answer. Under the lock. */
void neap__keep_health(neap__tier *tier, bool answered);
/* Sends for victims, removes what is corrupt. */
void neap__keep_after(neap__flight *flight);
void neap__keep_recover(neap__tier *tier);
