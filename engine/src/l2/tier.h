/* SPDX-License-Identifier: MIT
 *
 * l2/tier.h - one opened adapter with what the framework guarantees around it: bounded queue, per-object results,
 * exactly one completion, deadline, verification of what was loaded, accounting per tenant, capacity and eviction;
 * operations no longer and no more of them than the adapter wants, further attempts, one store per key at a time, and
 * an end to asking a store that fails (a breaker), that is full, or that failed to keep this very key.
 *
 * The flows talk to tiers, never to adapters. Task functions are called on the engine's loop thread and tasks complete
 * there; status and statistics may be read from any thread.
 *
 *   flow --neap__tier_submit--> queue (bounded) --> adapter->store/load/... --host->done--> loop thread --> task->done
 *
 * A task whose deadline passes completes for its submitter at once: what was not done by then is NEAP_ETIMEDOUT. Its
 * buffers stay pinned (task->release is called) only when the adapter really is done with them. While the breaker is
 * open, tasks are taken and answered from the loop at once, with NEAP_EIO for every object. */
#pragma once
#include <neap/adapter.h>

#include "base/loop.h"
#include "chunk/names.h"
#include "l2/registry.h"

typedef struct neap__tier neap__tier;
typedef struct neap__task neap__task;

struct neap__task {
  neap_op op;       /* op.objects points to `count` objects behind the struct; results are read there */
  neap__key *keys;  /* the binary keys, behind the objects; the objects' own keys are filled in by submit */
  neap__tier *tier; /* set by submit */
  void *ctx;        /* the submitter's */
  /* On the loop thread, once: results are final as far as the submitter is concerned. Never inside submit. */
  void (*done)(neap__task *task);
  /* On the loop thread, once, at or after done: the adapter no longer touches the buffers; unpin and free here. */
  void (*release)(neap__task *task);
  struct neap__flight *flight; /* framework's own: the copy that the adapter works on; NULL for tasks of flows */
};

/* A task with room for count objects, all zeroed, results preset to NEAP_EIO. NULL when out of memory. */
neap__task *neap__task_new(neap_op_kind kind, uint32_t count);
void neap__task_free(neap__task *task); /* from release, or instead of submit */

typedef struct neap__tier_env {
  neap__loop *loop; /* the engine's */
  neap__pool *pool; /* for host->queue_work */
  neap__names *names;
  neap_memory memory; /* offered to adapters that ask; bytes = 0: none */
  uint32_t index;     /* position on the command line */
} neap__tier_env;

/* Opens the adapter (calling thread), then starts recovery: lists what the store holds, if it can, to restore usage
 * and recency. config is borrowed until close. 0 or the adapter's error. */
int neap__tier_open(const neap__tier_config *config, const neap__tier_env *env, neap__tier **out, neap_error *err);
/* No new task is taken; waits until nothing is in flight (or grace_ms have passed: then says so and leaks the adapter
 * rather than free what it may touch), closes the adapter, frees the tier. False: it was left open, and what it was
 * given (loop, pool, names, L1) must stay too. Not on the loop thread. */
bool neap__tier_close(neap__tier *tier, uint64_t grace_ms);

/* Opens a new instance of the adapter that config names, lets it prove that it answers, and hands it everything from
 * now on. The tier keeps what it remembers, so config must name the same store: checksums of another one's objects
 * would refuse, and remove, what differs there. The old instance is closed when it has given back what it has, at most
 * grace_ms from now, else by a later reload or the close; left: operations that it has. An error says what is wrong
 * with the new one, and nothing has changed. Only adapter, params_json and limits of config are read. Blocks; not on
 * the loop thread, and one change of a tier at a time. */
int neap__tier_reload(neap__tier *tier, const neap__tier_config *config, uint64_t grace_ms, uint32_t *left,
                      neap_error *err);
void neap__tier_hasten(neap__tier *tier); /* from now on a reload waits for no adapter. Any thread. */
/* Passes changed parameters to the running instance (neap_adapter.reconfigure). Blocks, as above. */
int neap__tier_reconfigure(neap__tier *tier, const char *params_json, neap_error *err);
const neap_adapter *neap__tier_adapter(neap__tier *tier); /* of the running instance */

/* The quiet way to that end, for a tier that nothing new is routed to. hurry gives up what the framework does for
 * itself and nobody waits for, a listing at the start; with all, everything that somebody waits for (NEAP_ECANCELED).
 * await returns when something has ended, or at that time: how many operations the adapter has. retire is true when
 * there is nothing left, neither under way nor to be loaded after a positive lookup; then no task is taken any more.
 * hurry and retire: loop thread; await: any other. */
void neap__tier_hurry(neap__tier *tier, bool all);
uint32_t neap__tier_await(neap__tier *tier, uint64_t until_ns);
bool neap__tier_retire(neap__tier *tier);

/* Hands a task over. 0: done and release will be called. NEAP_ELIMIT (queue full: counted), NEAP_ENOTSUP (also for a
 * key of a space that may not use L2), NEAP_EINVAL (no objects), NEAP_ECLOSED: nothing happened, the task is still the
 * caller's. deadline_ms 0 = what the tier needs for all its attempts. Loop thread. */
int neap__tier_submit(neap__tier *tier, neap__task *task, uint64_t deadline_ms);

/* While locked, a key is not evicted by the framework: from a positive lookup until its load ended. Loop thread. */
void neap__tier_lock(neap__tier *tier, const neap__key *key);
void neap__tier_unlock(neap__tier *tier, const neap__key *key);

/* Whether a tier is asked: closed is yes, open is no, half open is "one lookup of nothing, to see whether it answers".
 */
typedef enum neap__breaker { NEAP_BREAKER_CLOSED = 0, NEAP_BREAKER_OPEN = 1, NEAP_BREAKER_HALF_OPEN = 2 } neap__breaker;
const char *neap__breaker_name(neap__breaker state);

typedef struct neap__tier_stats {
  uint64_t stored_objects, stored_bytes, loaded_objects, loaded_bytes, lookups, lookup_hits, evicted_objects;
  uint64_t store_failures[20], load_failures[20]; /* by -code */
  uint64_t queue_refused, deadlines, quarantined;
  uint64_t used_bytes, capacity_bytes; /* capacity 0: not bounded */
  uint32_t queued, in_flight_stores, in_flight_loads;
  uint32_t in_flight_objects; /* of stores and loads that the adapter has */
  uint64_t in_flight_load_bytes;
  double store_us_per_mib, load_us_per_mib, load_first_us; /* measured, see l2/pace.h; 0: not yet */
  uint64_t retried_objects, joined_stores; /* joined: offered while a store of the same key was under way */
  uint64_t breaker_opened, breaker_refused, negative_hits; /* objects, but for opened */
  uint64_t no_space_pauses, no_space_refused, no_space_until_ns;
  uint32_t breaker;  /* neap__breaker */
  bool healthy;      /* the breaker is closed */
  bool store_paused; /* nothing is stored for a while, for the store is full */
} neap__tier_stats;
void neap__tier_stats_get(neap__tier *tier, neap__tier_stats *out);
uint64_t neap__tier_tenant_bytes(neap__tier *tier, uint32_t tenant);

const neap__tier_config *neap__tier_config_of(neap__tier *tier);
bool neap__tier_can(neap__tier *tier, neap_op_kind kind);
#define NEAP_TIER_STATUS_BYTES 32768u /* room for what stores inside stores have to say */
/* The adapter's own status as a JSON object text with at least "is_healthy" and "type". Any thread. */
int neap__tier_status(neap__tier *tier, char *json, size_t cap);
