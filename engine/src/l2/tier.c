/* SPDX-License-Identifier: MIT
 *
 * l2/tier.c - the life of an operation on its way to an adapter and back: queue, deadline, hand-over, return.
 *
 * Promises: every enqueued task gets done once and release once, both from the loop; release only when the adapter has
 * given the operation back (or never had it). Runs on the engine's loop thread, but for open, close and the getters.
 * Checksums are computed on the worker pool. Not here: how a flow's task becomes operations (trip.c), what a result
 * means for usage and eviction (keep.c) and for the next ones (guard.c), what the adapter calls (host.c). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "l2/tier_defs.h"
#include "policy/registry.h"

#define NS_PER_MS UINT64_C(1000000)
#define DIGEST_HERE 65536u /* bytes whose checksum takes less time than a way to the pool and back */

/* --- tasks ---------------------------------------------------------------------------------------------------- */

neap__task *neap__task_new(neap_op_kind kind, uint32_t count) {
  neap__task *task = calloc(1, sizeof(*task) + count * (sizeof(neap_object) + sizeof(neap__key)));
  if (!task) return NULL;
  neap_object *objects = (neap_object *)(task + 1);
  task->op = (neap_op){.size = sizeof(neap_op), .kind = kind, .count = count, .objects = count ? objects : NULL};
  task->op.list_result = NEAP_EIO;
  task->keys = (neap__key *)(objects + count);
  for (uint32_t i = 0; i < count; i++) objects[i].result = NEAP_EIO;
  return task;
}

neap__task *neap__task_flying(neap_op_kind kind, uint32_t count) {
  neap__task *task = neap__task_new(kind, count);
  neap__flight *flight =
      calloc(1, sizeof(*flight) + count * (sizeof(neap_object) + sizeof(neap__key) + sizeof(uint32_t) + sizeof(bool)));
  if (!task || !flight) {
    free(task);
    free(flight);
    return NULL;
  }
  task->flight = flight;
  flight->task = task;
  flight->ids = (neap__key *)(flight->objects + count);
  flight->crcs = (uint32_t *)(flight->ids + count);
  flight->has_crc = (bool *)(flight->crcs + count);
  pthread_mutex_init(&flight->sink_lock, NULL);
  return task;
}

static void flight_free(neap__flight *flight) {
  if (!flight) return;
  pthread_mutex_destroy(&flight->sink_lock);
  free(flight);
}

void neap__task_free(neap__task *task) {
  if (!task) return;
  flight_free(task->flight);
  free(task);
}

/* --- queues --------------------------------------------------------------------------------------------------- */

bool neap__flight_writes(const neap__flight *flight) {
  return flight->op.kind == NEAP_OP_STORE || flight->op.kind == NEAP_OP_REMOVE;
}

bool neap__flight_moves(const neap__flight *flight) {
  return flight->op.kind == NEAP_OP_STORE || flight->op.kind == NEAP_OP_LOAD;
}

static neap__flight_queue *queue_of(neap__tier *tier, const neap__flight *flight) {
  return neap__flight_writes(flight) ? &tier->writes : &tier->reads;
}

static void publish_queued(neap__tier *tier) {
  pthread_mutex_lock(&tier->lock);
  tier->stats.queued = tier->queued;
  pthread_mutex_unlock(&tier->lock);
}

static void queue_push(neap__tier *tier, neap__flight *flight, bool ahead) {
  neap__flight_queue *queue = queue_of(tier, flight);
  if (ahead || !queue->first) {
    flight->next = queue->first;
    queue->first = flight;
    if (!flight->next) queue->last = flight;
  } else {
    queue->last->next = flight;
    queue->last = flight;
  }
  tier->queued++;
  tier->queued_bytes += flight->bytes;
  publish_queued(tier);
}

static void queue_take(neap__tier *tier, neap__flight *flight) {
  neap__flight_queue *queue = queue_of(tier, flight);
  neap__flight *before = NULL, *at = queue->first;
  while (at != flight) before = at, at = at->next;
  *(before ? &before->next : &queue->first) = flight->next;
  if (queue->last == flight) queue->last = before;
  flight->next = NULL;
  tier->queued--;
  tier->queued_bytes -= flight->bytes;
  publish_queued(tier);
}

/* --- deadlines ------------------------------------------------------------------------------------------------ */

static void wait_begin(neap__tier *tier, neap__flight *flight) {
  flight->after = tier->waiting;
  if (flight->after) flight->after->before = flight;
  tier->waiting = flight;
}

static void wait_end(neap__tier *tier, neap__flight *flight) {
  *(flight->before ? &flight->before->after : &tier->waiting) = flight->after;
  if (flight->after) flight->after->before = flight->before;
  flight->after = flight->before = NULL;
}

static void on_timer(uv_timer_t *timer);

void neap__tier_arm(neap__tier *tier, uint64_t at_ns) {
  if (at_ns == UINT64_MAX || (tier->wake_ns && tier->wake_ns <= at_ns)) return;
  uint64_t now = neap__now_ns();
  tier->wake_ns = at_ns;
  uv_update_time(tier->timer.loop); /* a loop that was busy counts from a stale now */
  uv_timer_start(&tier->timer, on_timer, at_ns > now ? (at_ns - now + NS_PER_MS - 1) / NS_PER_MS : 0, 0);
}

/* The adapter no longer has the operation, or never had it. */
static void let_go(neap__tier *tier, neap__flight *flight) {
  neap__task *task = flight->task;
  task->flight = NULL;
  flight->task = NULL;
  task->release(task);

  pthread_mutex_lock(&tier->lock);
  neap__flight **place = &tier->retired[tier->retired_next++ % NEAP_TIER_RETIRED_MAX];
  flight_free(*place);
  *place = flight;
  pthread_cond_broadcast(&tier->idle);
  pthread_mutex_unlock(&tier->lock);
}

/* The adapter kept it past its deadline, and was given the time for an answer. */
static bool is_silence(const neap__tier *tier, const neap__flight *flight, int code) {
  uint64_t enough_ms = NEAP_MIN(tier->guard.limits.deadline_ms, NEAP_TIER_SILENCE_MS);
  return code == NEAP_ETIMEDOUT && flight->phase == NEAP_PHASE_WITH_ADAPTER && !neap__mount_is_old(flight) &&
         flight->deadline_ns >= flight->start_ns + enough_ms * NS_PER_MS;
}

/* Answers the submitter with `code` for everything, whatever becomes of the operation. */
static void expire(neap__tier *tier, neap__flight *flight, int code) {
  neap__task *task = flight->task;
  bool was_queued = flight->phase == NEAP_PHASE_QUEUED;

  wait_end(tier, flight);
  if (was_queued) queue_take(tier, flight);
  pthread_mutex_lock(&flight->sink_lock);
  flight->expired = true;
  pthread_mutex_unlock(&flight->sink_lock);
  for (uint32_t i = 0; i < task->op.count; i++) task->op.objects[i].result = code;
  task->op.list_result = code;

  pthread_mutex_lock(&tier->lock);
  tier->stats.deadlines += code == NEAP_ETIMEDOUT;
  if (is_silence(tier, flight, code)) neap__guard_note(tier, false);
  if (flight->op.kind == NEAP_OP_STORE) tier->stats.store_failures[-code] += task->op.count;
  if (flight->op.kind == NEAP_OP_LOAD) tier->stats.load_failures[-code] += task->op.count;
  pthread_mutex_unlock(&tier->lock);

  neap__mount *mount = flight->mount;
  if (flight->phase == NEAP_PHASE_WITH_ADAPTER && NEAP_HAS(mount->adapter, neap_adapter, cancel))
    mount->adapter->cancel(mount->self, &flight->op);
  task->done(task);
  if (was_queued) let_go(tier, flight);
}

static void on_timer(uv_timer_t *timer) {
  neap__tier *tier = timer->data;
  uint64_t now = neap__now_ns(), late = 0;
  tier->wake_ns = 0;
  for (;;) {
    /* From the start each time: done may have submitted or ended others. */
    uint64_t earliest = UINT64_MAX;
    neap__flight *f = tier->waiting;
    for (; f && f->deadline_ns > now; f = f->after) earliest = NEAP_MIN(earliest, f->deadline_ns);
    if (!f) {
      neap__tier_arm(tier, earliest);
      break;
    }
    expire(tier, f, NEAP_ETIMEDOUT);
    late++;
  }
  if (late) NEAP_LOG_WARN("%s: %llu operations missed their deadline", tier->name, (unsigned long long)late);
  neap__guard_act(tier);
  neap__tier_arm(tier, neap__trip_tick(tier, now));
  neap__tier_arm(tier, neap__guard_tick(tier, now));
  neap__tier_pump(tier);
}

void neap__tier_refuse(neap__tier *tier) {
  for (;;) {
    neap__flight *f = tier->waiting;
    while (f && !f->of_trip) f = f->after;
    if (!f) return;
    neap__guard_count(tier, &tier->stats.breaker_refused, f->op.count);
    expire(tier, f, NEAP_EIO);
  }
}

/* --- to the adapter and back ---------------------------------------------------------------------------------- */

static void compute_crcs(neap__flight *flight) {
  for (uint32_t i = 0; i < flight->op.count; i++)
    flight->crcs[i] = neap__crc32c(0, flight->objects[i].data, flight->objects[i].bytes);
}

static void crc_work(void *arg) {
  neap__flight *flight = arg;
  compute_crcs(flight);
  neap__loop_post(flight->tier->env.loop, &flight->job);
}

/* What was loaded must be what was stored. */
static void verify(neap__flight *flight) {
  for (uint32_t i = 0; i < flight->op.count; i++) {
    neap_object *o = &flight->objects[i];
    if (o->result == 0 && flight->has_crc[i] && neap__crc32c(0, o->data, o->bytes) != flight->crcs[i])
      o->result = NEAP_ECORRUPT;
  }
}

static void digest_work(void *arg) {
  neap__flight *flight = arg;
  flight->digest(flight);
  neap__loop_post(flight->tier->env.loop, &flight->job);
}

static void settle(neap__flight *flight) {
  neap__tier *tier = flight->tier;
  neap__task *task = flight->task;
  bool stale = neap__mount_is_old(flight);

  pthread_mutex_lock(&tier->lock);
  uint32_t at = 0;
  while (tier->flying[at] != flight) at++;
  tier->flying[at] = tier->flying[--tier->flying_count];
  neap__keep_settle(flight);
  if (flight->mount) neap__mount_drop(tier, flight->mount);
  pthread_mutex_unlock(&tier->lock);
  tier->writes_in_flight -= neap__flight_writes(flight);
  tier->stale -= stale;
  tier->stale_writes -= stale && neap__flight_writes(flight);
  tier->claimed -= flight->claimed;

  if (!flight->expired) {
    wait_end(tier, flight);
    for (uint32_t i = 0; i < task->op.count; i++) {
      task->op.objects[i].result = flight->objects[i].result;
      task->op.objects[i].stored_bytes = flight->objects[i].stored_bytes;
    }
    task->op.list_result = flight->op.list_result;
    task->done(task);
  }
  neap__keep_after(flight);
  let_go(tier, flight);
  neap__guard_act(tier);
  neap__tier_pump(tier);
}

static void digested(neap__job *job) { settle((neap__flight *)((char *)job - offsetof(neap__flight, job))); }

void neap__tier_arrived(neap__job *job) {
  neap__flight *flight = (neap__flight *)((char *)job - offsetof(neap__flight, job));
  if (flight->op.kind == NEAP_OP_LOAD && neap__keep_expect(flight)) flight->digest = verify;
  if (flight->digest && !flight->expired) {
    bool here = flight->digest == verify && flight->bytes <= DIGEST_HERE;
    flight->job.run = digested;
    if (!here && neap__pool_submit(flight->tier->env.pool, digest_work, flight) == 0) return;
    flight->digest(flight); /* also when the pool is full: better here than not at all */
  }
  settle(flight);
}

/* Ends an operation that the adapter never saw. */
static void bounce(neap__flight *flight, int code) {
  for (uint32_t i = 0; i < flight->op.count; i++) flight->objects[i].result = code;
  flight->bounced = true;
  flight->phase = NEAP_PHASE_RETURNED;
  neap__loop_post(flight->tier->env.loop, &flight->job);
}

static void hand_over(neap__flight *flight) {
  neap__tier *tier = flight->tier;
  const neap_adapter *adapter = tier->mount->adapter;
  void *self = tier->mount->self;
  neap_op *op = &flight->op;

  flight->job.run = neap__tier_arrived;
  if (flight->expired) {
    bounce(flight, NEAP_ETIMEDOUT);
    return;
  }
  if (!neap__tier_can(tier, (neap_op_kind)op->kind)) { /* what it was meant for could; see neap__tier_reload */
    bounce(flight, NEAP_ENOTSUP);
    return;
  }
  pthread_mutex_lock(&tier->lock);
  flight->mount = tier->mount;
  flight->mount->users++;
  pthread_mutex_unlock(&tier->lock);
  flight->phase = NEAP_PHASE_WITH_ADAPTER; /* before the call: done may come inside it */
  switch ((neap_op_kind)op->kind) {
    case NEAP_OP_STORE: adapter->store(self, op); break;
    case NEAP_OP_LOOKUP: adapter->lookup(self, op); break;
    case NEAP_OP_LOAD: adapter->load(self, op); break;
    case NEAP_OP_REMOVE: adapter->remove(self, op); break;
    case NEAP_OP_LIST: adapter->list(self, op); break;
  }
}

static void prepared(neap__job *job) { hand_over((neap__flight *)((char *)job - offsetof(neap__flight, job))); }

/* From here on the adapter has so long for it. */
static void limit(neap__tier *tier, neap__flight *flight) {
  if (!flight->of_trip || flight->op.kind == NEAP_OP_LIST) return;
  uint64_t at_ns = neap__now_ns() + tier->guard.limits.deadline_ms * NS_PER_MS;
  if (at_ns >= flight->deadline_ns) return;
  flight->op.deadline_ns = flight->deadline_ns = at_ns;
  neap__tier_arm(tier, at_ns);
}

static void start(neap__tier *tier, neap__flight *flight) {
  queue_take(tier, flight);
  flight->start_ns = neap__now_ns();
  limit(tier, flight);
  flight->phase = NEAP_PHASE_PREPARING;
  flight->job.run = prepared;
  tier->writes_in_flight += neap__flight_writes(flight);
  tier->claimed += flight->claimed;

  pthread_mutex_lock(&tier->lock);
  tier->flying[tier->flying_count++] = flight;
  flight->seq = tier->seq;
  tier->stats.in_flight_stores += flight->op.kind == NEAP_OP_STORE;
  tier->stats.in_flight_loads += flight->op.kind == NEAP_OP_LOAD;
  if (flight->op.kind == NEAP_OP_LOAD) tier->stats.in_flight_load_bytes += flight->bytes;
  tier->stats.in_flight_objects += neap__flight_moves(flight) ? flight->op.count : 0;
  pthread_mutex_unlock(&tier->lock);

  if (flight->op.kind == NEAP_OP_STORE) {
    if (flight->bytes > DIGEST_HERE && neap__pool_submit(tier->env.pool, crc_work, flight) == 0) return;
    compute_crcs(flight);
  }
  hand_over(flight);
}

/* Whether a store would take the room that is being made, or was made, for others. */
static bool others_first(const neap__tier *tier, const neap__flight *flight) {
  if (flight->op.kind != NEAP_OP_STORE || flight->roomed) return false;
  return tier->guard.retrying || (tier->removing && tier->guard.short_of_room);
}

/* What may be handed over next. Somebody waits for a read, so writes leave it a quarter of the places; a store waits
 * for room when victims are on their way, and until those have stored whom it was made for. */
static neap__flight *next_flight(neap__tier *tier, bool *no_room) {
  uint32_t places = tier->guard.limits.concurrency;
  *no_room = false;
  if (tier->reads.first && tier->reads.first->probe) return tier->reads.first;
  if (tier->flying_count - tier->stale >= places) return NULL;
  if (tier->reads.first) return tier->reads.first;
  uint32_t writing = tier->writes_in_flight - tier->stale_writes;
  if (!tier->writes.first || writing >= NEAP_MAX(places * 3 / 4, 1u)) return NULL;
  if (tier->writes.first->op.kind == NEAP_OP_STORE && !neap__keep_room(tier, tier->writes.first)) {
    if (tier->writes.first->op.kind == NEAP_OP_REMOVE) return tier->writes.first;
    if (tier->removing) return NULL;
    *no_room = true;
  }
  return others_first(tier, tier->writes.first) ? NULL : tier->writes.first;
}

void neap__tier_pump(neap__tier *tier) {
  neap__flight *flight;
  bool no_room;
  while (!tier->closing && (flight = next_flight(tier, &no_room)) != NULL) {
    if (!no_room) {
      start(tier, flight);
      continue;
    }
    queue_take(tier, flight);
    pthread_mutex_lock(&tier->lock);
    tier->flying[tier->flying_count++] = flight;
    tier->stats.in_flight_stores++;
    tier->stats.in_flight_objects += flight->op.count;
    pthread_mutex_unlock(&tier->lock);
    tier->writes_in_flight++;
    flight->claimed = 0;
    flight->job.run = neap__tier_arrived;
    bounce(flight, NEAP_ENOSPC);
  }
}

/* --- queueing ------------------------------------------------------------------------------------------------- */

/* The submitter's sink sees its own operation, and nothing after its answer. */
static int list_sink(neap_op *op, const neap_list_entry *entry) {
  neap__flight *flight = (neap__flight *)op;
  pthread_mutex_lock(&flight->sink_lock);
  int stop = flight->expired || flight->task->op.sink(&flight->task->op, entry) != 0;
  pthread_mutex_unlock(&flight->sink_lock);
  return stop;
}

void neap__tier_enqueue(neap__tier *tier, neap__task *task, uint64_t deadline_ns, bool ahead) {
  neap__flight *flight = task->flight;
  task->tier = flight->tier = tier;
  flight->op = task->op;
  flight->op.objects = flight->op.count ? flight->objects : NULL;
  flight->op.sink = list_sink;
  flight->op.deadline_ns = deadline_ns == UINT64_MAX ? 0 : deadline_ns;
  flight->deadline_ns = deadline_ns;
  flight->phase = NEAP_PHASE_QUEUED;
  wait_begin(tier, flight);
  queue_push(tier, flight, ahead);
  neap__tier_arm(tier, deadline_ns);
}

void neap__tier_lock(neap__tier *tier, const neap__key *key) {
  neap__key id;
  pthread_mutex_lock(&tier->lock);
  neap__item *item = neap__catalogue_id(tier->catalogue, key, &id) ? NULL : neap__catalogue_find(tier->catalogue, &id);
  if (item) item->locks++;
  tier->pins++;
  pthread_mutex_unlock(&tier->lock);
}

void neap__tier_unlock(neap__tier *tier, const neap__key *key) {
  neap__key id;
  pthread_mutex_lock(&tier->lock);
  neap__item *item = neap__catalogue_id(tier->catalogue, key, &id) ? NULL : neap__catalogue_find(tier->catalogue, &id);
  if (item && item->locks) item->locks--; /* forgotten and found again in between: its locks went with it */
  NEAP_ASSERT(tier->pins > 0);
  if (--tier->pins == 0) pthread_cond_broadcast(&tier->idle);
  pthread_mutex_unlock(&tier->lock);
}

/* --- open and close ------------------------------------------------------------------------------------------- */

static void begin(void *arg) {
  neap__tier *tier = arg;
  uv_timer_init(neap__loop_uv(tier->env.loop), &tier->timer);
  tier->timer.data = tier;
  neap__keep_recover(tier);
}

static void tier_free(neap__tier *tier) {
  for (uint32_t i = 0; i < NEAP_TIER_RETIRED_MAX; i++) flight_free(tier->retired[i]);
  neap__trip_free(tier);
  neap__guard_end(tier);
  neap__catalogue_close(tier->catalogue);
  pthread_cond_destroy(&tier->idle);
  pthread_mutex_destroy(&tier->lock);
  free(tier->plugin_dirs);
  free(tier);
}

int neap__tier_open(const neap__tier_config *config, const neap__tier_env *env, neap__tier **out, neap_error *err) {
  neap__tier *tier = calloc(1, sizeof(*tier));
  if (!tier) return neap__fail(err, NEAP_ENOMEM, "%s: out of memory", config->name);
  tier->config = config;
  snprintf(tier->name, sizeof(tier->name), "%s", config->name);
  tier->env = *env;
  tier->stats.capacity_bytes = config->capacity_bytes;
  tier->stats.healthy = true;
  pthread_mutex_init(&tier->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&tier->idle, &attr);
  pthread_condattr_destroy(&attr);
  neap__host_init(tier);

  tier->plugin_dirs = strdup(config->plugin_dirs ? config->plugin_dirs : "");
  tier->guard.limits = config->limits.concurrency ? config->limits : neap__limits_of(config->adapter);
  int rc = neap__trip_open(tier);
  if (!rc) rc = neap__catalogue_open(env->names, NEAP_TIER_OBJECTS_MAX, &tier->catalogue);
  if (!rc && !tier->plugin_dirs) rc = NEAP_ENOMEM;
  if (rc) neap__fail(err, rc, "%s: out of memory", config->name);
  neap__policy_spec arc;
  if (!rc && strcmp(config->eviction_policy, "ARC") == 0) {
    rc = neap__policy_find("ARC", &arc, err);
    if (!rc) rc = neap__catalogue_follow(tier->catalogue, arc.policy, err);
  }
  if (!rc) rc = neap__mount_open(tier, config->adapter, config->params_json, &tier->mount, err);
  if (rc) {
    tier_free(tier);
    return rc;
  }
  tier->table = tier->mount->adapter;
  neap__loop_call(env->loop, begin, tier);
  *out = tier;
  return 0;
}

static void expire_all(neap__tier *tier) {
  while (tier->waiting) expire(tier, tier->waiting, NEAP_ECANCELED);
}

/* Nobody waits for it, and nobody will load what a lookup has found. */
static bool quiet(neap__tier *tier) {
  pthread_mutex_lock(&tier->lock);
  bool busy = tier->flying_count || tier->pins || neap__mount_unanswered(tier);
  pthread_mutex_unlock(&tier->lock);
  return !busy && !tier->queued && !tier->guard.trips;
}

bool neap__tier_retire(neap__tier *tier) {
  if (!quiet(tier)) return false;
  tier->closing = true;
  return true;
}

void neap__tier_hurry(neap__tier *tier, bool all) {
  neap__flight *f = tier->waiting;
  while (f && f->deadline_ns != UINT64_MAX) f = f->after;
  if (f) expire(tier, f, NEAP_ECANCELED);
  if (!all) return;
  tier->closing = true;
  neap__trip_end_waiting(tier, NEAP_ECANCELED);
  expire_all(tier);
}

uint32_t neap__tier_await(neap__tier *tier, uint64_t until_ns) {
  struct timespec at = {.tv_sec = (time_t)(until_ns / 1000000000), .tv_nsec = (long)(until_ns % 1000000000)};
  pthread_mutex_lock(&tier->lock);
  (void)pthread_cond_timedwait(&tier->idle, &tier->lock, &at);
  uint32_t flying = tier->flying_count + neap__mount_unanswered(tier);
  pthread_mutex_unlock(&tier->lock);
  return flying;
}

/* What the adapter has not seen is answered now; a listing is told to stop. */
static void close_begin(void *arg) {
  neap__tier *tier = arg;
  tier->closing = true;
  neap__trip_end_waiting(tier, NEAP_ECANCELED);
  neap__flight *f = tier->waiting;
  while (f) {
    bool ends = f->phase == NEAP_PHASE_QUEUED || f->op.kind == NEAP_OP_LIST;
    neap__flight *ended = f;
    f = f->after;
    if (!ends) continue;
    expire(tier, ended, NEAP_ECANCELED);
    f = tier->waiting;
  }
}

static void timer_closed(uv_handle_t *timer) {
  neap__tier *tier = timer->data;
  pthread_mutex_lock(&tier->lock);
  tier->timer_closed = true;
  pthread_cond_broadcast(&tier->idle);
  pthread_mutex_unlock(&tier->lock);
}

static void close_end(void *arg) {
  neap__tier *tier = arg;
  expire_all(tier);
  uv_close((uv_handle_t *)&tier->timer, timer_closed);
}

/* Waits until the adapter has nothing, at most grace_ms. */
static void wait_idle(neap__tier *tier, uint64_t grace_ms) {
  uint64_t until = neap__now_ns() + grace_ms * NS_PER_MS;
  struct timespec at = {.tv_sec = (time_t)(until / 1000000000), .tv_nsec = (long)(until % 1000000000)};
  pthread_mutex_lock(&tier->lock);
  int rc = 0;
  while (tier->flying_count + neap__mount_unanswered(tier) && rc == 0)
    rc = pthread_cond_timedwait(&tier->idle, &tier->lock, &at);
  pthread_mutex_unlock(&tier->lock);
}

bool neap__tier_close(neap__tier *tier, uint64_t grace_ms) {
  if (!tier) return true;
  neap__loop_call(tier->env.loop, close_begin, tier);
  wait_idle(tier, grace_ms);
  neap__loop_call(tier->env.loop, close_end, tier);
  neap__loop_settle(tier->env.loop); /* what was given back because it was cancelled */

  pthread_mutex_lock(&tier->lock);
  while (!tier->timer_closed) pthread_cond_wait(&tier->idle, &tier->lock);
  uint32_t left = tier->flying_count + neap__mount_unanswered(tier);
  tier->abandoned = left > 0;
  pthread_mutex_unlock(&tier->lock);
  if (left) {
    NEAP_LOG_ERROR("%s still has %u operations after %llu ms: it is left open and their buffers stay pinned",
                   tier->name, left, (unsigned long long)grace_ms);
    return false;
  }
  neap__loop_settle(tier->env.loop); /* the last one no longer flies, but may still be on its way out of settle */
  while (tier->older) {
    neap__mount *older = tier->older;
    tier->older = older->older;
    neap__mount_close(older);
  }
  neap__mount_close(tier->mount);
  tier_free(tier);
  return true;
}

/* --- looking -------------------------------------------------------------------------------------------------- */

void neap__tier_stats_get(neap__tier *tier, neap__tier_stats *out) {
  pthread_mutex_lock(&tier->lock);
  *out = tier->stats;
  out->used_bytes = neap__catalogue_bytes(tier->catalogue);
  double first_us; /* of a store: nobody waits for its beginning */
  neap__pace_get(&tier->store_pace, &first_us, &out->store_us_per_mib);
  neap__pace_get(&tier->load_pace, &out->load_first_us, &out->load_us_per_mib);
  out->store_paused = neap__now_ns() < out->no_space_until_ns;
  pthread_mutex_unlock(&tier->lock);
}

uint64_t neap__tier_tenant_bytes(neap__tier *tier, uint32_t tenant) {
  pthread_mutex_lock(&tier->lock);
  uint64_t bytes = neap__catalogue_tenant_bytes(tier->catalogue, tenant);
  pthread_mutex_unlock(&tier->lock);
  return bytes;
}

const neap__tier_config *neap__tier_config_of(neap__tier *tier) { return tier->config; }
