/* SPDX-License-Identifier: MIT
 *
 * l2/trip.c - a flow's task as operations: split, tried again, joined, answered.
 *
 *   task -> trip -> legs, each an operation of its own (tier.c) over some of the objects
 *                     leg ends -> its objects are final, or fly again in another leg after a pause or an eviction
 *
 * Promises: a task gets done once, when every object is final, and release once, when no leg of it is with the adapter
 * any more; both from the loop, never inside submit. At most `concurrency` legs of one trip are under way, so that a
 * task of any length takes few places in the queue. Only objects that ended with NEAP_EIO or NEAP_ETIMEDOUT are tried
 * again, inside the task's deadline; a load that is late is not, for the adapter may still write its buffer. A key is
 * stored by one leg at a time: who offers it meanwhile gets the result of that one. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "l2/tier_defs.h"

#define NS_PER_MS UINT64_C(1000000)
#define STORE_BUCKETS 1024u
#define BACKOFF_MAX_MS 30000u

typedef struct trip trip;

/* An object of a store: under way, or waiting for the result of another one with its key. */
typedef struct neap__cargo {
  struct neap__cargo *next;    /* in the bucket, or among the joiners */
  struct neap__cargo *joiners; /* of one that is under way */
  trip *of;
  uint32_t at;
  bool listed;
} cargo;

struct trip {
  neap__job job; /* for an answer that is known at submit */
  neap__tier *tier;
  neap__task *task;
  uint64_t deadline_ns;
  uint32_t unfinal;          /* objects without a result; 1 for a listing */
  uint32_t flying, pins;     /* legs not answered; legs not released */
  uint32_t next, todo_count; /* of todo */
  bool answered;
  neap__key *ids;
  uint32_t *todo; /* positions that are not final from the start */
  cargo *cargos;  /* of a store */
};

struct neap__leg {
  neap__leg *next; /* while it waits */
  trip *of;
  uint64_t wake_ns;
  uint32_t attempt, count;
  bool roomed; /* tried once already when the store was full */
  uint32_t at[];
};

/* --- memory --------------------------------------------------------------------------------------------------- */

static trip *trip_new(neap__tier *tier, neap__task *task) {
  uint32_t count = task->op.count, cargos = task->op.kind == NEAP_OP_STORE ? count : 0;
  trip *t = malloc(sizeof(*t) + cargos * sizeof(cargo) + count * (sizeof(neap__key) + sizeof(uint32_t)));
  if (!t) return NULL;
  *t = (trip){.tier = tier, .task = task, .cargos = (cargo *)(t + 1)};
  t->ids = (neap__key *)(t->cargos + cargos);
  t->todo = (uint32_t *)(t->ids + count);
  return t;
}

static neap__leg *leg_new(trip *t, uint32_t count) {
  neap__leg *leg = malloc(sizeof(*leg) + count * sizeof(leg->at[0]));
  if (leg) *leg = (neap__leg){.of = t, .count = count};
  return leg;
}

/* --- one store per key ---------------------------------------------------------------------------------------- */

static cargo **bucket_of(neap__tier *tier, const neap__key *id) {
  return &tier->guard.stores[neap__key_hash(id) & (STORE_BUCKETS - 1)];
}

/* True if somebody else stores this key already: the object waits for that result. */
static bool join(trip *t, uint32_t at) {
  cargo **bucket = bucket_of(t->tier, &t->ids[at]), *c = *bucket;
  while (c && memcmp(&c->of->ids[c->at], &t->ids[at], sizeof(neap__key)) != 0) c = c->next;
  cargo *own = &t->cargos[at];
  *own = (cargo){.of = t, .at = at, .listed = !c, .next = c ? c->joiners : *bucket};
  *(c ? &c->joiners : bucket) = own;
  return c != NULL;
}

/* Takes a store out of the table; returns who waited for it. */
static cargo *unlist(trip *t, uint32_t at) {
  cargo *own = &t->cargos[at], **c = bucket_of(t->tier, &t->ids[at]);
  if (!own->listed) return NULL;
  while (*c != own) c = &(*c)->next;
  *c = own->next;
  own->listed = false;
  return own->joiners;
}

/* --- the answer ----------------------------------------------------------------------------------------------- */

static void drop_if_over(trip *t) {
  if (!t->answered || t->pins) return;
  t->task->release(t->task);
  free(t);
}

/* The trip is gone when nothing of it is with the adapter. */
static void answer(trip *t) {
  t->answered = true;
  t->tier->guard.trips--;
  t->pins++; /* done may end the last leg */
  t->task->done(t->task);
  t->pins--;
  drop_if_over(t);
}

static void answer_job(neap__job *job) { answer((trip *)(void *)job); }

static void set_result(trip *t, uint32_t at, int result, uint64_t stored_bytes) {
  t->task->op.objects[at].result = result;
  t->task->op.objects[at].stored_bytes = stored_bytes;
  t->unfinal--;
}

/* A store has ended; so have those that joined it, and perhaps their trips. */
static void end_store(trip *t, uint32_t at, int result, uint64_t stored_bytes) {
  cargo *joiners = unlist(t, at);
  if (result == 0)
    neap__guard_stored(t->tier);
  else if (result != NEAP_ENOSPC && result != NEAP_ECANCELED && !neap__guard_refuses(t->tier))
    neap__guard_failed(t->tier, &t->ids[at], result);
  set_result(t, at, result, stored_bytes);
  while (joiners) {
    trip *other = joiners->of;
    uint32_t its = joiners->at;
    joiners = joiners->next;
    set_result(other, its, result, 0);
    if (other != t && !other->unfinal) answer(other);
  }
}

static void finalize(trip *t, uint32_t at, int result, uint64_t stored_bytes) {
  if (t->task->op.kind == NEAP_OP_STORE)
    end_store(t, at, result, stored_bytes);
  else
    set_result(t, at, result, stored_bytes);
}

static void finalize_all(trip *t, const uint32_t *at, uint32_t count, int result) {
  for (uint32_t i = 0; i < count; i++) finalize(t, at[i], result, 0);
}

/* --- legs ----------------------------------------------------------------------------------------------------- */

static void leg_done(neap__task *child);

static void leg_release(neap__task *child) {
  neap__leg *leg = child->ctx;
  trip *t = leg->of;
  neap__task_free(child);
  free(leg);
  t->pins--;
  drop_if_over(t);
}

/* Any thread: the flow's sink sees its own operation. */
static int leg_sink(neap_op *op, const neap_list_entry *entry) {
  neap__task *child = (neap__task *)(void *)op;
  neap_op *own = &((neap__leg *)child->ctx)->of->task->op;
  return own->sink(own, entry);
}

/* Why nothing more can be sent, or 0. */
static int stop_code(const trip *t) {
  if (t->tier->closing) return NEAP_ECANCELED;
  if (neap__guard_refuses(t->tier)) return NEAP_EIO;
  return 0;
}

/* Sends a leg, or ends its objects. The caller looks whether the trip is over. */
static void launch(neap__leg *leg) {
  trip *t = leg->of;
  int code = stop_code(t);
  neap__task *child = code ? NULL : neap__task_flying((neap_op_kind)t->task->op.kind, leg->count);
  if (!child) {
    finalize_all(t, leg->at, leg->count, code ? code : NEAP_ENOMEM);
    if (t->task->op.kind == NEAP_OP_LIST) t->task->op.list_result = code ? code : NEAP_ENOMEM, t->unfinal = 0;
    free(leg);
    return;
  }
  neap__flight *flight = child->flight;
  for (uint32_t i = 0; i < leg->count; i++) {
    flight->objects[i] = t->task->op.objects[leg->at[i]];
    flight->objects[i].result = NEAP_EIO;
    flight->ids[i] = t->ids[leg->at[i]];
    if (flight->objects[i].data) flight->bytes += flight->objects[i].bytes;
  }
  flight->of_trip = true;
  flight->roomed = leg->roomed;
  t->tier->guard.retrying += leg->roomed;
  child->op.sink = leg_sink;
  child->ctx = leg;
  child->done = leg_done;
  child->release = leg_release;
  t->flying++;
  t->pins++;
  neap__tier_enqueue(t->tier, child, t->deadline_ns, leg->roomed);
}

/* Sends of what was never sent as much as may be under way. */
static void advance(trip *t) {
  const neap__limits *limits = &t->tier->guard.limits;
  while (t->next < t->todo_count && t->flying < limits->concurrency) {
    uint32_t count = NEAP_MIN(t->todo_count - t->next, limits->batch), *at = t->todo + t->next;
    int code = neap__now_ns() >= t->deadline_ns ? NEAP_ETIMEDOUT : stop_code(t);
    if (code) count = t->todo_count - t->next;
    t->next += count;
    for (uint32_t i = 0; i < count; i++)
      if (t->task->op.objects[at[i]].data) t->tier->guard.unsent_bytes -= t->task->op.objects[at[i]].bytes;
    neap__leg *leg = code ? NULL : leg_new(t, count);
    if (!leg) {
      finalize_all(t, at, count, code ? code : NEAP_ENOMEM);
      continue;
    }
    memcpy(leg->at, at, count * sizeof(*at));
    launch(leg);
  }
}

/* --- another try ---------------------------------------------------------------------------------------------- */

static uint64_t dice(neap__tier *tier) { /* xorshift64, Marsaglia, 2003 */
  uint64_t x = tier->guard.dice;
  x ^= x << 13;
  x ^= x >> 7;
  return tier->guard.dice = x ^ x << 17;
}

/* Half of the pause is fixed, half is chance, so that what failed together does not come back together. */
static uint64_t pause_ns(neap__tier *tier, uint32_t attempt) {
  uint64_t ms = NEAP_MIN((uint64_t)tier->guard.limits.backoff_ms << NEAP_MIN(attempt, 20u), BACKOFF_MAX_MS);
  uint64_t ns = ms * NS_PER_MS;
  return ns / 2 + dice(tier) % (ns / 2 + 1);
}

static bool again(const neap__flight *flight, const neap__leg *leg, int result) {
  const trip *t = leg->of;
  if (result != NEAP_EIO && result != NEAP_ETIMEDOUT) return false;
  if (flight->op.kind == NEAP_OP_LOAD && flight->expired) return false;
  return leg->attempt < t->tier->guard.limits.retries && !stop_code(t);
}

static bool wants_room(const neap__flight *flight, const neap__leg *leg, int result) {
  return result == NEAP_ENOSPC && flight->op.kind == NEAP_OP_STORE && !flight->bounced && !leg->of->tier->closing;
}

static void wait_among(neap__leg **list, neap__leg *leg) {
  leg->next = *list;
  *list = leg;
  neap__tier_arm(leg->of->tier, leg->wake_ns);
}

/* The objects of a leg that some test picks, as a leg that waits; what cannot wait is final. */
static void put_off(const neap__task *child, bool room, uint64_t wake_ns) {
  neap__leg *leg = child->ctx, *later = leg_new(leg->of, leg->count);
  trip *t = leg->of;
  uint32_t n = 0;
  for (uint32_t i = 0; i < leg->count; i++) {
    int result = child->op.objects[i].result;
    if (!(room ? wants_room(child->flight, leg, result) : again(child->flight, leg, result))) continue;
    if (later)
      later->at[n++] = leg->at[i];
    else
      finalize(t, leg->at[i], result, 0);
  }
  if (!later) return;
  later->count = n;
  later->wake_ns = wake_ns;
  later->attempt = leg->attempt + !room;
  later->roomed = leg->roomed || room;
  if (!room) neap__guard_count(t->tier, &t->tier->stats.retried_objects, n);
  wait_among(room ? &t->tier->guard.short_of_room : &t->tier->guard.pausing, later);
}

/* Ends what of a leg is final; the rest waits for another try. */
static void sort_out(const neap__task *child) {
  neap__leg *leg = child->ctx;
  trip *t = leg->of;
  uint64_t wake_ns = neap__now_ns() + pause_ns(t->tier, leg->attempt);
  bool in_time = wake_ns < t->deadline_ns, retry = false, room = false;
  for (uint32_t i = 0; i < leg->count; i++) {
    const neap_object *o = &child->op.objects[i];
    if (in_time && again(child->flight, leg, o->result)) {
      retry = true;
    } else if (wants_room(child->flight, leg, o->result)) {
      room |= !leg->roomed;
      if (!leg->roomed) continue;
      neap__guard_full(t->tier);
      finalize(t, leg->at[i], o->result, 0);
    } else {
      finalize(t, leg->at[i], o->result, o->stored_bytes);
    }
  }
  if (retry) put_off(child, false, wake_ns);
  if (room) put_off(child, true, t->deadline_ns);
}

static void leg_done(neap__task *child) {
  neap__leg *leg = child->ctx;
  trip *t = leg->of;
  t->flying--;
  t->tier->guard.retrying -= leg->roomed;
  if (child->op.kind == NEAP_OP_LIST) {
    t->task->op.list_result = child->op.list_result;
    t->unfinal = 0;
  }
  sort_out(child);
  advance(t);
  if (!t->unfinal) answer(t);
}

/* Takes a waiting leg up again, or ends its objects with code. */
static void resume(neap__leg *leg, int code) {
  trip *t = leg->of;
  if (code) {
    finalize_all(t, leg->at, leg->count, code);
    free(leg);
  } else {
    launch(leg);
  }
  if (!t->unfinal) answer(t);
}

uint64_t neap__trip_tick(neap__tier *tier, uint64_t now) {
  neap__leg **lists[2] = {&tier->guard.pausing, &tier->guard.short_of_room};
  uint64_t earliest = UINT64_MAX;
  for (uint32_t i = 0; i < 2; i++) {
    neap__leg *due = *lists[i];
    *lists[i] = NULL;
    while (due) {
      neap__leg *leg = due;
      due = leg->next;
      if (leg->wake_ns <= now) {
        resume(leg, i == 0 ? 0 : NEAP_ENOSPC);
        continue;
      }
      leg->next = *lists[i];
      *lists[i] = leg;
      earliest = NEAP_MIN(earliest, leg->wake_ns);
    }
  }
  return earliest;
}

static void end_waiting(neap__leg **list, int code) {
  while (*list) {
    neap__leg *leg = *list;
    *list = leg->next;
    resume(leg, code);
  }
}

void neap__trip_room(neap__tier *tier, bool made) {
  neap__leg *waiting = tier->guard.short_of_room;
  tier->guard.short_of_room = NULL;
  if (waiting && !made) neap__guard_full(tier);
  end_waiting(&waiting, made ? 0 : NEAP_ENOSPC);
}

void neap__trip_end_waiting(neap__tier *tier, int code) {
  end_waiting(&tier->guard.pausing, code);
  end_waiting(&tier->guard.short_of_room, code);
}

/* --- submitting ----------------------------------------------------------------------------------------------- */

/* Names the objects; their bytes are counted for the bound. */
static int name_objects(trip *t, uint64_t *bytes) {
  neap__tier *tier = t->tier;
  neap__task *task = t->task;
  uint32_t space = UINT32_MAX;
  int rc = 0;
  *bytes = 0;
  pthread_mutex_lock(&tier->lock);
  for (uint32_t i = 0; i < task->op.count && !rc; i++) {
    const neap__key *key = &task->keys[i];
    if (key->space != space && !neap__names_primary(tier->env.names, key->space))
      rc = NEAP_ENOTSUP;
    else if (neap__catalogue_id(tier->catalogue, key, &t->ids[i]))
      rc = NEAP_ELIMIT;
    space = key->space;
  }
  pthread_mutex_unlock(&tier->lock);
  for (uint32_t i = 0; i < task->op.count && !rc; i++) {
    neap_object *object = &task->op.objects[i];
    object->key = neap__names_object_key(tier->env.names, &task->keys[i]);
    if (object->data) *bytes += object->bytes;
  }
  return rc;
}

/* What is to be said about a store without asking the adapter, or 0. */
static int known_failure(trip *t, uint32_t at, bool full) {
  if (full) {
    neap__guard_count(t->tier, &t->tier->stats.no_space_refused, 1);
    return NEAP_ENOSPC;
  }
  int code = neap__guard_failed_before(t->tier, &t->ids[at]);
  if (code) neap__guard_count(t->tier, &t->tier->stats.negative_hits, 1);
  return code;
}

/* Sorts the objects: what is known to fail, what somebody else stores, what is to be sent. */
static void embark(trip *t) {
  neap__task *task = t->task;
  neap__tier *tier = t->tier;
  bool store = task->op.kind == NEAP_OP_STORE, full = store && neap__guard_is_full(tier);
  t->unfinal = task->op.count;
  if (neap__guard_refuses(tier)) {
    neap__guard_count(tier, &tier->stats.breaker_refused, task->op.count);
    for (uint32_t i = 0; i < task->op.count; i++) set_result(t, i, NEAP_EIO, 0);
    task->op.list_result = NEAP_EIO;
    return;
  }
  if (task->op.kind == NEAP_OP_LIST) {
    neap__leg *leg = leg_new(t, 0);
    t->unfinal = leg != NULL;
    task->op.list_result = leg ? NEAP_EIO : NEAP_ENOMEM;
    if (leg) launch(leg);
    return;
  }
  for (uint32_t i = 0; i < task->op.count; i++) {
    int code = store ? known_failure(t, i, full) : 0;
    if (code) {
      set_result(t, i, code, 0);
    } else if (store && join(t, i)) {
      neap__guard_count(tier, &tier->stats.joined_stores, 1);
    } else {
      t->todo[t->todo_count++] = i;
      if (task->op.objects[i].data) tier->guard.unsent_bytes += task->op.objects[i].bytes;
    }
  }
  advance(t);
}

/* Time for every attempt and the pauses between them. */
static uint64_t patience_ms(const neap__limits *limits) {
  uint64_t ms = NEAP_MAX(limits->deadline_ms, NEAP_TIER_DEADLINE_MS);
  for (uint32_t i = 0; i < limits->retries; i++)
    ms += limits->deadline_ms + NEAP_MIN((uint64_t)limits->backoff_ms << i, BACKOFF_MAX_MS);
  return ms;
}

int neap__tier_submit(neap__tier *tier, neap__task *task, uint64_t deadline_ms) {
  NEAP_ASSERT(neap__loop_here(tier->env.loop));
  neap__tier_guard *guard = &tier->guard;
  if (tier->closing) return NEAP_ECLOSED;
  if (!neap__tier_can(tier, (neap_op_kind)task->op.kind)) return NEAP_ENOTSUP;
  if (!task->op.count && task->op.kind != NEAP_OP_LIST) return NEAP_EINVAL;
  trip *t = trip_new(tier, task);
  uint64_t bytes = 0, queued = tier->queued_bytes + guard->unsent_bytes;
  int rc = t ? name_objects(t, &bytes) : NEAP_ELIMIT;
  if (rc == NEAP_ENOTSUP) {
    free(t);
    return rc;
  }
  if (rc || tier->queued >= NEAP_TIER_QUEUED_MAX || guard->trips >= NEAP_TIER_QUEUED_MAX + guard->limits.concurrency ||
      (queued && queued + bytes > NEAP_TIER_QUEUED_BYTES_MAX)) {
    free(t);
    neap__guard_count(tier, &tier->stats.queue_refused, 1);
    return NEAP_ELIMIT;
  }
  t->deadline_ns = neap__now_ns() + (deadline_ms ? deadline_ms : patience_ms(&guard->limits)) * NS_PER_MS;
  t->job.run = answer_job;
  task->tier = tier;
  guard->trips++;
  t->pins++; /* this function: nothing is answered inside it */
  embark(t);
  t->pins--;
  if (!t->unfinal) neap__loop_post(tier->env.loop, &t->job);
  neap__tier_pump(tier);
  return 0;
}

int neap__trip_open(neap__tier *tier) {
  tier->guard.dice = neap__now_ns() | 1;
  tier->guard.stores = calloc(STORE_BUCKETS, sizeof(cargo *));
  return tier->guard.stores ? 0 : NEAP_ENOMEM;
}

void neap__trip_free(neap__tier *tier) { free(tier->guard.stores); }
