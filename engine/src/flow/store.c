/* SPDX-License-Identifier: MIT
 *
 * flow/store.c - see store.h. Offers come from any thread into one bounded queue; everything after that runs on the
 * loop thread. While the policy makes plans, an offer waits in one piece until its plan is made. A batch goes to every
 * tier at once and holds its leases until the last tier has let go. The next batch may start when every tier has
 * answered: one that answered "too late" and still holds its buffers costs the others memory (which pending_bytes_max
 * bounds), not their turn. */
#include "flow/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flow/plan.h"

#define BATCH_OBJECTS 32u
#define BATCHES_IN_FLIGHT 8u /* without an answer */

typedef struct offered {
  struct offered *next;
  neap__lease lease;
  neap__key key;
  uint64_t bytes;
  uint32_t slot, pos, request;
  uint32_t group; /* of the first of an offer that waits for its plan: how many there are */
  uint32_t skip;  /* bit t: not to tier t */
  bool missing;   /* from some tier */
} offered;

typedef struct batch batch;

/* What of a batch goes to one tier: bit i is its object i. */
typedef struct sending {
  batch *batch;
  uint32_t tier, objects;
} sending;

struct batch {
  neap__storer *storer;
  uint32_t count, tiers_left, tiers_silent; /* that have not let go; that have not answered */
  offered *objects[BATCH_OBJECTS];
  sending sendings[NEAP_TIERS_MAX];
};

_Static_assert(BATCH_OBJECTS <= 32 && NEAP_TIERS_MAX <= 32, "their sets are bits of a word");

struct neap__storer {
  neap__storer_config config;
  pthread_mutex_t lock; /* the queue */
  pthread_cond_t idle;
  offered *head, **tail;
  offered *unplanned, **unplanned_tail; /* offers, one behind the other */
  bool closing;
  bool left_open; /* by a close that ran out of patience: the last batch frees */
  neap__job job;
  atomic_bool posted;
  uint64_t refusal_logged_ns, failure_logged_ns;
  uint32_t unanswered; /* batches. Loop thread */
  _Atomic uint64_t pending_bytes, submitted, submitted_objects, completed, completed_objects, failed_objects;
  _Atomic uint64_t refused_objects, refused_bytes, planned_out_objects;
  _Atomic uint32_t pending_objects, in_flight;
};

static const neap__owner store_owner = {.kind = NEAP_OWNER_LOCAL};

/* Wakes drain, once. */
static void post(neap__storer *st) {
  if (!atomic_exchange(&st->posted, true)) neap__loop_post(st->config.loop, &st->job);
}

/* --- offering ------------------------------------------------------------------------------------------------- */

static void refuse(neap__storer *st, uint64_t bytes) {
  atomic_fetch_add(&st->refused_objects, 1);
  atomic_fetch_add(&st->refused_bytes, bytes);
  uint64_t now = neap__now_ns();
  if (now - st->refusal_logged_ns < 1000000000u) return;
  st->refusal_logged_ns = now;
  NEAP_LOG_WARN(
      "L2 lags behind: %llu bytes wait to be stored (limit %llu); new objects stay in L1 only "
      "(%llu so far)",
      (unsigned long long)atomic_load(&st->pending_bytes), (unsigned long long)st->config.pending_bytes_max,
      (unsigned long long)atomic_load(&st->refused_objects));
}

static offered *offer_one(neap__storer *st, const neap__key *key) {
  neap__lease lease;
  neap__view view;
  if (neap__l1_acquire(st->config.l1, 1, key, &store_owner, 1, true, &lease) != 1) return NULL;
  neap__l1_view(st->config.l1, lease, &view);
  bool full = atomic_load(&st->pending_bytes) + view.bytes > st->config.pending_bytes_max;
  offered *o = full ? NULL : malloc(sizeof *o);
  if (!o) {
    refuse(st, view.bytes);
    neap__l1_release(st->config.l1, lease, UINT32_MAX);
    return NULL;
  }
  *o = (offered){.lease = lease, .key = *key, .bytes = view.bytes, .slot = view.slot};
  atomic_fetch_add(&st->pending_bytes, view.bytes);
  atomic_fetch_add(&st->pending_objects, 1);
  return o;
}

void neap__storer_offer(neap__storer *st, uint32_t request, uint32_t count, const neap__key *keys, const uint32_t *at) {
  if (!neap__tier_set_count(st->config.tiers)) return;
  neap__names *names = neap__l1_names(st->config.l1);
  offered *first = NULL, **last = &first;
  uint32_t group = 0;
  pthread_mutex_lock(&st->lock);
  for (uint32_t i = 0; i < count && !st->closing; i++) {
    if (!neap__names_primary(names, keys[i].space)) continue;
    offered *o = offer_one(st, &keys[i]);
    if (!o) continue;
    o->pos = at ? at[i] : i;
    o->request = request;
    *last = o;
    last = &o->next;
    group++;
  }
  if (first) {
    bool plans = st->unplanned || neap__stream_wants(st->config.stream) & NEAP__HAS_STORE_PLAN;
    first->group = group;
    offered ***tail = plans ? &st->unplanned_tail : &st->tail;
    **tail = first;
    *tail = last;
  }
  pthread_mutex_unlock(&st->lock);
  if (first) post(st);
}

/* --- the plan, on the loop thread ----------------------------------------------------------------------------- */

/* Asks where the chunks of an offer go; without an answer, everywhere. */
static void make_plan(neap__storer *st, offered *first, uint32_t count) {
  neap_tier_view views[NEAP_TIERS_MAX];
  uint32_t cut[NEAP_TIERS_MAX] = {0}, i = 0;
  neap_plan_chunk *chunks = malloc(count * sizeof *chunks);
  if (!chunks) return;
  for (offered *o = first; o; o = o->next) chunks[i++] = neap__plan_chunk(&o->key, o->slot, o->bytes, o->pos);
  neap_store_plan plan = {.size = sizeof plan,
                          .tenant = first->key.tenant,
                          .request = first->request,
                          .chunks = count,
                          .tiers = neap__plan_tiers(st->config.tiers, views),
                          .tier = views,
                          .cut = cut};
  for (uint32_t t = 0; t < plan.tiers; t++) cut[t] = views[t].name[0] ? count : 0;
  bool planned = plan.tiers && neap__stream_store_plan(st->config.stream, &plan, chunks);
  free(chunks);
  i = 0;
  for (offered *o = first; o && planned; o = o->next, i++)
    for (uint32_t t = 0; t < plan.tiers; t++)
      if (i >= cut[t]) o->skip |= 1u << t;
}

/* The first offer without a plan gets one and may go. While it is in neither queue it counts as a batch in flight. */
static bool plan_one(neap__storer *st) {
  pthread_mutex_lock(&st->lock);
  offered *first = st->unplanned, *last = first;
  uint32_t count = first ? first->group : 0;
  for (uint32_t i = 1; i < count; i++) last = last->next;
  if (first) {
    st->unplanned = last->next;
    if (!st->unplanned) st->unplanned_tail = &st->unplanned;
    last->next = NULL;
    atomic_fetch_add(&st->in_flight, 1);
  }
  pthread_mutex_unlock(&st->lock);
  if (!first) return false;
  make_plan(st, first, count);
  pthread_mutex_lock(&st->lock);
  *st->tail = first;
  st->tail = &last->next;
  atomic_fetch_sub(&st->in_flight, 1);
  pthread_mutex_unlock(&st->lock);
  return true;
}

/* --- storing, on the loop thread ------------------------------------------------------------------------------ */

static void finish_object(neap__storer *st, offered *o) {
  neap__l1_release(st->config.l1, o->lease, UINT32_MAX);
  if (st->config.skip_l1 && !o->missing) neap__l1_remove(st->config.l1, &o->key, false);
  atomic_fetch_sub(&st->pending_bytes, o->bytes);
  atomic_fetch_sub(&st->pending_objects, 1);
  free(o);
}

static void batch_answered(batch *b) {
  if (--b->tiers_silent) return;
  b->storer->unanswered--;
  post(b->storer);
}

static void batch_left(batch *b) {
  neap__storer *st = b->storer;
  if (--b->tiers_left) return;
  for (uint32_t i = 0; i < b->count; i++) finish_object(st, b->objects[i]);
  free(b);
  atomic_fetch_add(&st->completed, 1);
  /* Posted before the count falls: close frees st once it is 0 and what is posted has run. */
  post(st);
  pthread_mutex_lock(&st->lock);
  atomic_fetch_sub(&st->in_flight, 1);
  pthread_cond_broadcast(&st->idle);
  pthread_mutex_unlock(&st->lock);
}

/* Whether the tier has said already that nothing is stored for the time being: not again for every request. */
static bool is_told(neap__tier *tier) {
  neap__tier_stats stats;
  neap__tier_stats_get(tier, &stats);
  return stats.store_paused || stats.breaker != NEAP_BREAKER_CLOSED;
}

static uint32_t lowest(uint32_t bits) { return (uint32_t)__builtin_ctz(bits); }

static void stored(neap__task *task) {
  const sending *to = task->ctx;
  batch *b = to->batch;
  uint32_t failed = 0, left = to->objects;
  int reason = 0;
  for (uint32_t i = 0; i < task->op.count; i++, left &= left - 1) {
    offered *o = b->objects[lowest(left)];
    if (task->op.objects[i].result == 0) {
      neap__l1_tell_tier(b->storer->config.l1, o->lease, NEAP_EV_STORED, to->tier);
      neap__known_note(b->storer->config.known, &o->key);
      continue;
    }
    o->missing = true;
    reason = task->op.objects[i].result;
    failed++;
  }
  atomic_fetch_add(&b->storer->completed_objects, task->op.count - failed);
  atomic_fetch_add(&b->storer->failed_objects, failed);
  batch_answered(b);
  uint64_t now = neap__now_ns();
  if (!failed || now - b->storer->failure_logged_ns < 1000000000u || is_told(task->tier)) return;
  b->storer->failure_logged_ns = now;
  NEAP_LOG_WARN("Store task to adapter %s failed for %u of %u keys: %s", neap__tier_config_of(task->tier)->name, failed,
                task->op.count, neap_strerror(reason));
}

static void let_go(neap__task *task) {
  batch *b = ((const sending *)task->ctx)->batch;
  neap__task_free(task);
  batch_left(b);
}

static void skip_tier(batch *b) {
  for (uint32_t i = 0; i < b->count; i++) b->objects[i]->missing = true;
}

/* How many tiers there are to store in. */
static uint32_t routes(const neap__storer *st) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < NEAP_TIERS_MAX; i++) count += neap__tier_set_route(st->config.tiers, i) != NULL;
  return count;
}

/* The objects of a batch that a tier is to get; the others are missing from it. */
static sending *choose(batch *b, uint32_t tier) {
  sending *to = &b->sendings[tier];
  *to = (sending){.batch = b, .tier = tier};
  for (uint32_t i = 0; i < b->count; i++) {
    if (!(b->objects[i]->skip >> tier & 1u)) {
      to->objects |= 1u << i;
      continue;
    }
    b->objects[i]->missing = true;
    atomic_fetch_add(&b->storer->planned_out_objects, 1);
  }
  return to;
}

static void submit_to(neap__storer *st, batch *b, neap__tier *tier, uint32_t index) {
  sending *to = choose(b, index);
  uint32_t count = (uint32_t)__builtin_popcount(to->objects);
  bool wanted = neap__tier_config_of(tier)->persist_enabled && count > 0;
  neap__task *task = wanted ? neap__task_new(NEAP_OP_STORE, count) : NULL;
  if (!task) {
    skip_tier(b);
    batch_answered(b);
    batch_left(b);
    return;
  }
  neap__names *names = neap__l1_names(st->config.l1);
  uint32_t left = to->objects;
  for (uint32_t i = 0; i < count; i++, left &= left - 1) {
    const offered *o = b->objects[lowest(left)];
    neap__view view;
    int rc = neap__l1_view(st->config.l1, o->lease, &view);
    NEAP_ASSERT(rc == 0); /* the batch holds the lease */
    task->keys[i] = o->key;
    task->op.objects[i].key = neap__names_object_key(names, &o->key);
    task->op.objects[i].data = view.data;
    task->op.objects[i].bytes = view.bytes;
  }
  task->ctx = to;
  task->done = stored;
  task->release = let_go;
  atomic_fetch_add(&st->submitted, 1);
  atomic_fetch_add(&st->submitted_objects, count);
  if (neap__tier_submit(tier, task, 0) == 0) return;
  atomic_fetch_add(&st->failed_objects, count);
  skip_tier(b);
  batch_answered(b);
  let_go(task);
}

static batch *next_batch(neap__storer *st) {
  batch *b = calloc(1, sizeof *b);
  if (!b) return NULL;
  pthread_mutex_lock(&st->lock);
  while (st->head && b->count < BATCH_OBJECTS) {
    b->objects[b->count++] = st->head;
    st->head = st->head->next;
  }
  if (!st->head) st->tail = &st->head;
  if (b->count) atomic_fetch_add(&st->in_flight, 1); /* here, so that close sees it in the queue or in flight */
  pthread_mutex_unlock(&st->lock);
  if (b->count) return b;
  free(b);
  return NULL;
}

static void storer_free(neap__storer *st) {
  pthread_mutex_destroy(&st->lock);
  pthread_cond_destroy(&st->idle);
  free(st);
}

static void submit_batches(neap__storer *st) {
  while (st->unanswered < BATCHES_IN_FLIGHT) {
    batch *b = next_batch(st);
    if (!b && plan_one(st)) continue;
    if (!b) return;
    b->storer = st;
    b->tiers_left = b->tiers_silent = routes(st) + 1; /* one is this function, so that b lives until then */
    if (b->tiers_left == 1) skip_tier(b);             /* the last tier was detached meanwhile */
    st->unanswered++;
    for (uint32_t i = 0; i < NEAP_TIERS_MAX; i++) {
      neap__tier *tier = neap__tier_set_route(st->config.tiers, i);
      if (tier) submit_to(st, b, tier, i);
    }
    batch_answered(b);
    batch_left(b);
  }
}

/* Runs after each offer and after each batch. */
static void drain(neap__job *job) {
  neap__storer *st = (neap__storer *)((char *)job - offsetof(neap__storer, job));
  atomic_store(&st->posted, false);
  submit_batches(st);
  pthread_mutex_lock(&st->lock);
  bool last = st->left_open && !atomic_load(&st->in_flight) && !st->head;
  pthread_mutex_unlock(&st->lock);
  if (last) storer_free(st);
}

/* --- open, close, look ---------------------------------------------------------------------------------------- */

int neap__storer_open(const neap__storer_config *config, neap__storer **out) {
  neap__storer *st = calloc(1, sizeof *st);
  if (!st) return NEAP_ENOMEM;
  st->config = *config;
  st->tail = &st->head;
  st->unplanned_tail = &st->unplanned;
  st->job.run = drain;
  pthread_mutex_init(&st->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&st->idle, &attr);
  pthread_condattr_destroy(&attr);
  *out = st;
  return 0;
}

void neap__storer_close(neap__storer *st, uint64_t grace_ms) {
  if (!st) return;
  neap__loop *loop = st->config.loop;
  uint64_t until = neap__now_ns() + grace_ms * 1000000u;
  struct timespec at = {.tv_sec = (time_t)(until / 1000000000u), .tv_nsec = (long)(until % 1000000000u)};
  pthread_mutex_lock(&st->lock);
  st->closing = true;
  int timed_out = 0;
  while ((st->head || st->unplanned || atomic_load(&st->in_flight)) && !timed_out)
    timed_out = pthread_cond_timedwait(&st->idle, &st->lock, &at);
  *st->tail = st->unplanned;
  offered *left = st->head;
  st->head = st->unplanned = NULL;
  st->tail = &st->head;
  st->unplanned_tail = &st->unplanned;
  pthread_mutex_unlock(&st->lock);
  for (uint32_t n = 0; left; n++) {
    offered *next = left->next;
    if (n == 0) NEAP_LOG_WARN("closing with objects that were not yet stored to L2");
    left->missing = true;
    finish_object(st, left);
    left = next;
  }
  pthread_mutex_lock(&st->lock);
  uint32_t in_flight = atomic_load(&st->in_flight);
  bool left_open = in_flight > 0 || st->head; /* what was being planned came after all */
  st->left_open = left_open;
  pthread_mutex_unlock(&st->lock);
  if (left_open) { /* st may be gone already */
    NEAP_LOG_ERROR("%u store batches are still in flight after %llu ms; their memory stays pinned", in_flight,
                   (unsigned long long)grace_ms);
    return;
  }
  neap__loop_settle(loop);
  storer_free(st);
}

void neap__storer_stats_get(neap__storer *st, neap__storer_stats *out) {
  *out = (neap__storer_stats){.submitted = atomic_load(&st->submitted),
                              .submitted_objects = atomic_load(&st->submitted_objects),
                              .completed = atomic_load(&st->completed),
                              .completed_objects = atomic_load(&st->completed_objects),
                              .failed_objects = atomic_load(&st->failed_objects),
                              .refused_objects = atomic_load(&st->refused_objects),
                              .refused_bytes = atomic_load(&st->refused_bytes),
                              .planned_out_objects = atomic_load(&st->planned_out_objects),
                              .pending_bytes = atomic_load(&st->pending_bytes),
                              .pending_objects = atomic_load(&st->pending_objects),
                              .in_flight = atomic_load(&st->in_flight)};
}
