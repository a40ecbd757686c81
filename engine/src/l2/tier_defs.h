/* SPDX-License-Identifier: MIT
 *
 * l2/tier_defs.h - what the files of a tier share: trip.c (a flow's task as operations), tier.c (life of an operation),
 * host.c (services for the adapter), keep.c (what is remembered about the store) and guard.c (a store that fails).
 *
 *   trip.c      tier.c                      adapter                      host.c
 *   submit --> QUEUED -> PREPARING -> WITH_ADAPTER -- host->done --> RETURNED -> (digest) -> settled -> retired
 *     ^                                                                                        |
 *     +---------------------------- what failed, again, or the answer <------------------------+
 *
 * Here a task is one operation with its flight; the tasks of flows have none and fly as one or more of these.
 * Members of neap__tier are of one of three kinds: fixed after open, of the loop thread, or under the lock. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "l2/catalogue.h"
#include "l2/pace.h"
#include "l2/tier.h"

#define NEAP_TIER_PROBES_MAX 4u /* of a breaker; beside what concurrency allows, for that may be used up by a hang */
#define NEAP_TIER_OLDER_MAX 4u  /* replaced instances that hold operations */
#define NEAP_TIER_IN_FLIGHT_MAX ((NEAP_LIMIT_CONCURRENCY + NEAP_TIER_PROBES_MAX) * (NEAP_TIER_OLDER_MAX + 1u))
#define NEAP_TIER_QUEUED_MAX 1024u /* operations that wait */
#define NEAP_TIER_QUEUED_BYTES_MAX (UINT64_C(1) << 30)
#define NEAP_TIER_DEADLINE_MS 30000u
#define NEAP_TIER_OBJECTS_MAX (1u << 20) /* remembered; see l2/catalogue.h for the memory */
#define NEAP_TIER_SILENCE_MS 100u        /* at most; who cannot wait so long learns nothing about the store */
#define NEAP_TIER_REMOVE_MAX 512u        /* objects of one remove by the framework */
#define NEAP_TIER_RETIRED_MAX 64u
#define NEAP_TIER_SICK_AFTER 5u /* failed operations in a row that make a tier unhealthy that has no breaker */

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
  uint64_t deadline_ns, start_ns;              /* start: when it left the queue */
  uint64_t bytes, claimed, seq;                /* claimed: bytes that a store may add */
  void (*digest)(struct neap__flight *flight); /* run by the pool after the return; NULL: nothing to do */
  _Atomic neap__phase phase;
  bool expired;              /* the submitter has its answer */
  bool bounced;              /* the adapter never saw it */
  bool of_trip;              /* of a flow's task; else the framework's own */
  bool roomed;               /* a store that has been promised room */
  struct neap__mount *mount; /* who has or had it, NULL: nobody */
  bool probe;                /* a lookup of nothing: its answer says that there are answers */
  pthread_mutex_t sink_lock; /* LIST: no sink call after the answer */
  neap__key *ids;
  uint32_t *crcs;
  bool *has_crc;
  neap_object objects[];
} neap__flight;

typedef struct neap__flight_queue {
  neap__flight *first, *last;
} neap__flight_queue;

/* An operation of a trip that waits for another try. */
typedef struct neap__leg neap__leg;

/* What the framework knows about a store that fails. Loop thread, the breaker's state in the statistics aside. */
typedef struct neap__tier_guard {
  neap__limits limits;
  /* trip.c */
  neap__leg *pausing, *short_of_room; /* until their time; until an eviction has ended */
  uint32_t retrying;                  /* stores under way again, in the room that was made for them */
  uint64_t short_bytes;               /* of stores that came short of room while victims were on their way out */
  uint32_t widened;                   /* times that the eviction under way went on for them */
  struct neap__cargo **stores;        /* stores under way, by key */
  uint32_t trips;                     /* not yet answered */
  uint64_t unsent_bytes;
  uint64_t dice; /* for jitter */
  /* guard.c */
  bool tripped;    /* the breaker opened, and nothing was done about it yet */
  uint32_t probes; /* that the running instance has */
  uint32_t cooldown_ms;
  uint64_t probe_ns; /* when to probe, 0: not */
  bool full_told;
  struct neap__negative *negative; /* keys whose store failed; made when first needed */
} neap__tier_guard;

/* A lookup of nothing that a new instance has to answer before it gets anything else. */
typedef struct neap__check neap__check;

/* One opened instance of the adapter. `adapter` and `self` are fixed; the rest is under the tier's lock. */
typedef struct neap__mount {
  const neap_adapter *adapter;
  void *self;
  uint32_t users; /* operations that it has, and threads that are inside its status */
  neap__check *check;
  struct neap__mount *older; /* replaced before, and not yet closed */
} neap__mount;

struct neap__tier {
  /* fixed after open */
  const neap__tier_config *config;
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
  uint32_t stale, stale_writes; /* under way in replaced instances: they take no place of the one that runs */
  uint64_t queued_bytes, claimed;
  bool closing, removing, remove_failed, recovering; /* removing: victims are on their way out */
  neap__tier_guard guard;
  /* what gets new operations; set by the loop thread under the lock. Tables are never freed, mounts are. */
  neap__mount *mount;
  _Atomic(const neap_adapter *) table;
  /* under the lock */
  pthread_mutex_t lock;
  pthread_cond_t idle;
  neap__flight *flying[NEAP_TIER_IN_FLIGHT_MAX];
  uint32_t flying_count;
  neap__flight *retired[NEAP_TIER_RETIRED_MAX]; /* kept a while: a second done must not find a new operation there */
  uint32_t retired_next;
  neap__catalogue *catalogue;
  neap__tier_stats stats;
  neap__pace store_pace, load_pace;
  uint64_t seq;
  uint32_t failures_in_row;
  neap__mount *older;   /* replaced, not yet closed */
  neap__mount *checked; /* the one whose check is under way */
  uint32_t pins;        /* positive lookups whose load has not ended */
  bool hastened;        /* nobody waits for an instance any more */
  bool timer_closed;
  bool abandoned; /* closed while the adapter still had operations */
};

/* tier.c */
/* A task with a flight. */
neap__task *neap__task_flying(neap_op_kind kind, uint32_t count);
bool neap__flight_writes(const neap__flight *flight); /* a store or a remove */
bool neap__flight_moves(const neap__flight *flight);  /* a store or a load */
void neap__tier_enqueue(neap__tier *tier, neap__task *task, uint64_t deadline_ns, bool ahead);
void neap__tier_pump(neap__tier *tier);
void neap__tier_arrived(neap__job *job);               /* run by the loop after host->done */
void neap__tier_arm(neap__tier *tier, uint64_t at_ns); /* the tier's timer fires then or before */
/* Answers everything that flows wait for with NEAP_EIO, whether the adapter has it or not. */
void neap__tier_refuse(neap__tier *tier);

/* mount.c */
int neap__mount_open(neap__tier *tier, const neap_adapter *adapter, const char *params_json, neap__mount **out,
                     neap_error *err);
void neap__mount_close(neap__mount *mount);                     /* nobody uses it */
bool neap__mount_answered(neap__tier *tier, const neap_op *op); /* op is a check; it has ended. Under the lock. */
uint32_t neap__mount_unanswered(const neap__tier *tier);        /* checks that older instances have. Under the lock. */
void neap__mount_drop(neap__tier *tier, neap__mount *mount);    /* one user less. Under the lock. */
/* Not the one that gets new operations: what becomes of its own says nothing about that. */
bool neap__mount_is_old(const neap__flight *flight);

/* trip.c; loop thread. */
int neap__trip_open(neap__tier *tier);
void neap__trip_end_waiting(neap__tier *tier, int code); /* nothing waits for another try any more */
void neap__trip_free(neap__tier *tier);
uint64_t neap__trip_tick(neap__tier *tier, uint64_t now); /* sends what has waited; when to come again */
/* No eviction is under way any more; made: one has removed something. */
void neap__trip_room(neap__tier *tier, bool made);

/* guard.c; loop thread. */
void neap__guard_note(neap__tier *tier, bool answered);    /* counts an operation that ended. Under the lock. */
void neap__guard_act(neap__tier *tier);                    /* what follows from a breaker that opened */
uint64_t neap__guard_tick(neap__tier *tier, uint64_t now); /* probes when it is time; when to come again */
bool neap__guard_refuses(const neap__tier *tier);          /* the breaker is not closed */
bool neap__guard_is_silence(int result);                   /* what an adapter says that got no answer from its store */
void neap__guard_count(neap__tier *tier, uint64_t *counter, uint64_t more);
/* The code that a store of this key ended with a short while ago, or 0. */
int neap__guard_failed_before(neap__tier *tier, const neap__key *id);
void neap__guard_failed(neap__tier *tier, const neap__key *id, int code);
void neap__guard_full(neap__tier *tier);    /* the store is full and no room was made: nothing is stored for a while */
bool neap__guard_is_full(neap__tier *tier); /* in that while */
void neap__guard_stored(neap__tier *tier);  /* the store took an object */
void neap__guard_reset(neap__tier *tier);   /* as if nothing had ever failed; its limits may be other ones */
void neap__guard_end(neap__tier *tier);

/* host.c */
void neap__host_init(neap__tier *tier);

/* keep.c; loop thread. */
/* Whether a store of this flight fits into the capacity. When it does not, victims are sent for. */
bool neap__keep_room(neap__tier *tier, neap__flight *flight);
/* Fills crcs of a load; true if any of its objects can be verified. */
bool neap__keep_expect(neap__flight *flight);
/* Books what the adapter answered. Under the lock. */
void neap__keep_settle(neap__flight *flight);
/* Sends for victims, removes what is corrupt. */
void neap__keep_after(neap__flight *flight);
void neap__keep_recover(neap__tier *tier);
