/* SPDX-License-Identifier: MIT
 *
 * flow/load.c - see load.h. A flight is one object on its way: its key, the staged buffer, and who waits for it. It
 * lives in a hash table from the submission of its task until the adapter has let go of the buffer. */
#include "flow/load.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096u
#define TASK_OBJECTS 64u

typedef struct waiter {
  struct waiter *next;
  neap__load_for want;
  uint32_t cell;
} waiter;

typedef struct flight {
  struct flight *next; /* in its bucket */
  neap__key key;
  neap__lease staged; /* NEAP_NO_LEASE once committed */
  uint32_t tier;
  bool landed; /* its waiters were told; only the adapter's release is outstanding */
  uint64_t deadline_ns;
  waiter *waiters;
} flight;

struct neap__loads {
  neap__loads_config config;
  flight *buckets[BUCKETS];
  _Atomic uint64_t tasks, objects, loaded, out_of_room, not_found;
};

static const neap__owner load_owner = {.kind = NEAP_OWNER_LOCAL};

int neap__loads_open(const neap__loads_config *config, neap__loads **out) {
  neap__loads *l = calloc(1, sizeof *l);
  if (!l) return NEAP_ENOMEM;
  l->config = *config;
  *out = l;
  return 0;
}

void neap__loads_close(neap__loads *l) {
  if (!l) return;
  for (uint32_t i = 0; i < BUCKETS; i++)
    if (l->buckets[i]) return;
  free(l);
}

static flight **bucket_of(neap__loads *l, const neap__key *key) {
  return &l->buckets[neap__key_hash(key) & (BUCKETS - 1)];
}

/* A flight of key that somebody may join who waits deadline_ms. One that is to be given up before half of that has
 * passed is none: its end would be the joiner's too. */
static flight *find_flight(neap__loads *l, const neap__key *key, uint64_t deadline_ms) {
  uint64_t half_ns = neap__now_ns() + deadline_ms * 500000u;
  for (flight *f = *bucket_of(l, key); f; f = f->next)
    if (!f->landed && f->deadline_ns >= half_ns && memcmp(&f->key, key, sizeof *key) == 0) return f;
  return NULL;
}

static void forget_flight(neap__loads *l, flight *f) {
  flight **at = bucket_of(l, &f->key);
  while (*at != f) at = &(*at)->next;
  *at = f->next;
  free(f);
}

static bool add_waiter(flight *f, const neap__load_for *want, uint32_t cell) {
  waiter *w = malloc(sizeof *w);
  if (!w) return false;
  *w = (waiter){.want = *want, .cell = cell, .next = f->waiters};
  f->waiters = w;
  return true;
}

/* Hands a resident object (or the lack of one) to whoever wants it. */
static void deliver(neap__loads *l, const neap__key *key, const neap__load_for *want, uint32_t cell, int result) {
  neap__lease lease = NEAP_NO_LEASE;
  if (!result && neap__l1_acquire(l->config.l1, 1, key, &want->owner, want->readers, true, &lease) != 1)
    result = NEAP_ENOENT;
  want->done(want->ctx, cell, lease, result);
}

/* Ends a flight for its waiters. The pin keeps a temporary object, or one in a full L1, until each of them has its
 * lease: the first may give its own back before the next one is told. */
static void land(neap__loads *l, flight *f, int result) {
  waiter *waiters = f->waiters;
  neap__lease pin = NEAP_NO_LEASE;
  f->waiters = NULL;
  f->landed = true;
  neap__tier_unlock(neap__tier_set_at(l->config.tiers, f->tier), &f->key);
  if (result == 0) {
    bool won = false;
    result = neap__l1_commit(l->config.l1, f->staged, &won, &load_owner, 1, &pin);
    f->staged = NEAP_NO_LEASE;
    if (result == 0) atomic_fetch_add(&l->loaded, 1);
    if (result == 0 && won) neap__l1_tell_tier(l->config.l1, pin, NEAP_EV_LOADED, f->tier);
  } else {
    atomic_fetch_add(&l->not_found, 1);
    if (l->config.fate) neap__fate_note(l->config.fate, &f->key, NEAP_FATE_LOST, 0);
  }
  while (waiters) {
    waiter *w = waiters;
    waiters = w->next;
    deliver(l, &f->key, &w->want, w->cell, result);
    free(w);
  }
  if (pin != NEAP_NO_LEASE) neap__l1_release(l->config.l1, pin, UINT32_MAX);
}

/* --- tasks ---------------------------------------------------------------------------------------------------- */

typedef struct load_task {
  neap__loads *loads;
  flight *flights[TASK_OBJECTS];
} load_task;

/* Tail first, so that in the order of admission the heads of prompts are the most recent. */
static void loaded(neap__task *task) {
  load_task *t = task->ctx;
  for (uint32_t i = task->op.count; i-- > 0;) land(t->loads, t->flights[i], task->op.objects[i].result);
  neap__evictor_check(t->loads->config.evictor);
}

static void let_go(neap__task *task) {
  load_task *t = task->ctx;
  for (uint32_t i = 0; i < task->op.count; i++) {
    flight *f = t->flights[i];
    if (f->staged != NEAP_NO_LEASE) neap__l1_abort(t->loads->config.l1, f->staged);
    forget_flight(t->loads, f);
  }
  neap__task_free(task);
  free(t);
}

static void submit(neap__loads *l, uint32_t tier, flight **flights, uint32_t count, uint64_t deadline_ms) {
  load_task *t = malloc(sizeof *t);
  neap__task *task = neap__task_new(NEAP_OP_LOAD, count);
  NEAP_ASSERT(t && task); /* a few KiB; the process is beyond help when these fail */
  t->loads = l;
  memcpy(t->flights, flights, count * sizeof *flights);
  neap__names *names = neap__l1_names(l->config.l1);
  for (uint32_t i = 0; i < count; i++) {
    neap__view view;
    int rc = neap__l1_view(l->config.l1, flights[i]->staged, &view);
    NEAP_ASSERT(rc == 0); /* the flight holds the lease */
    task->keys[i] = flights[i]->key;
    task->op.objects[i].key = neap__names_object_key(names, &flights[i]->key);
    task->op.objects[i].data = view.data;
    task->op.objects[i].bytes = view.bytes;
  }
  task->ctx = t;
  task->done = loaded;
  task->release = let_go;
  atomic_fetch_add(&l->tasks, 1);
  atomic_fetch_add(&l->objects, count);
  if (neap__tier_submit(neap__tier_set_at(l->config.tiers, tier), task, deadline_ms) == 0) return;
  for (uint32_t i = 0; i < count; i++) task->op.objects[i].result = NEAP_ELIMIT;
  task->tier = neap__tier_set_at(l->config.tiers, tier);
  loaded(task);
  let_go(task);
}

/* --- starting ------------------------------------------------------------------------------------------------- */

/* How many items from the start are alike in what becomes of them. */
static uint32_t alike(const neap__load_item **items, uint32_t count) {
  uint32_t same = 1;
  while (same < count && items[same]->temporary == items[0]->temporary) same++;
  return same;
}

/* Stages the longest run of items from the start that fits: asks for less and less until one more is too much. The
 * others get NEAP_ENOSPC. False if there were others. */
static bool stage(neap__loads *l, const neap__load_item **items, uint32_t count, neap__lease *leases, int *results) {
  neap__key keys[TASK_OBJECTS];
  uint64_t bytes[TASK_OBJECTS];
  for (uint32_t i = 0; i < count; i++) keys[i] = items[i]->key, bytes[i] = items[i]->bytes;
  uint32_t done = 0;
  for (uint32_t step = count; step > 0; step = NEAP_MIN(step, count - done)) {
    uint32_t some = NEAP_MIN(step, alike(items + done, count - done));
    int rc = neap__evictor_reserve(l->config.evictor, some, keys + done, bytes + done,
                                   items[done]->temporary ? NEAP_RESERVE_TEMPORARY : 0, &load_owner, leases + done,
                                   results + done);
    if (rc) {
      step = some / 2;
      continue;
    }
    for (uint32_t i = done; i < done + some; i++)
      if (results[i] == 0) neap__l1_place(l->config.l1, leases[i], items[i]->pos);
    done += some;
  }
  for (uint32_t i = done; i < count; i++) leases[i] = NEAP_NO_LEASE, results[i] = NEAP_ENOSPC;
  return done == count;
}

/* The flight of an item that was staged, or NULL when there is none: its wanter knows then. */
static flight *take_off(neap__loads *l, const neap__load_item *item, const neap__load_for *want, neap__lease staged,
                        int result) {
  flight *f = result == 0 ? calloc(1, sizeof *f) : NULL;
  if (f && add_waiter(f, want, item->cell)) {
    flight **bucket = bucket_of(l, &item->key);
    f->key = item->key;
    f->staged = staged;
    f->tier = item->tier;
    f->deadline_ns = neap__now_ns() + want->deadline_ms * 1000000u;
    f->next = *bucket;
    *bucket = f;
    return f;
  }
  free(f);
  if (staged != NEAP_NO_LEASE) neap__l1_abort(l->config.l1, staged);
  neap__tier_unlock(neap__tier_set_at(l->config.tiers, item->tier), &item->key);
  if (result == NEAP_EEXIST) { /* a worker stored it meanwhile */
    deliver(l, &item->key, want, item->cell, 0);
  } else {
    atomic_fetch_add(&l->out_of_room, 1);
    if (l->config.fate) neap__fate_note(l->config.fate, &item->key, NEAP_FATE_REFUSED, item->bytes);
    want->done(want->ctx, item->cell, NEAP_NO_LEASE, result ? result : NEAP_ENOMEM);
  }
  return NULL;
}

/* True if the item is on its way already. */
static bool join(neap__loads *l, const neap__load_item *item, const neap__load_for *want) {
  flight *f = find_flight(l, &item->key, want->deadline_ms);
  if (!f) return false;
  neap__tier_unlock(neap__tier_set_at(l->config.tiers, item->tier), &item->key);
  if (!add_waiter(f, want, item->cell)) want->done(want->ctx, item->cell, NEAP_NO_LEASE, NEAP_ENOMEM);
  return true;
}

/* Starts at most TASK_OBJECTS items. Room is given in their order, whatever tiers they are in. */
static void start_some(neap__loads *l, const neap__load_item *items, uint32_t count, const neap__load_for *want,
                       bool *room) {
  const neap__load_item *fresh[TASK_OBJECTS];
  neap__lease leases[TASK_OBJECTS];
  int results[TASK_OBJECTS];
  flight *flights[TASK_OBJECTS];
  uint32_t tiers[TASK_OBJECTS], fresh_count = 0, flying = 0;
  for (uint32_t i = 0; i < count; i++)
    if (!join(l, &items[i], want)) fresh[fresh_count++] = &items[i];
  for (uint32_t i = 0; i < fresh_count; i++) leases[i] = NEAP_NO_LEASE, results[i] = NEAP_ENOSPC;
  if (*room) *room = stage(l, fresh, fresh_count, leases, results);
  for (uint32_t i = 0; i < fresh_count; i++) {
    flight *f = take_off(l, fresh[i], want, leases[i], results[i]);
    if (f) tiers[flying] = f->tier, flights[flying++] = f;
  }
  for (uint32_t tier = 0; tier < NEAP_TIERS_MAX && flying; tier++) {
    flight *batch[TASK_OBJECTS];
    uint32_t batched = 0;
    for (uint32_t i = 0; i < flying; i++)
      if (tiers[i] == tier) batch[batched++] = flights[i];
    if (batched) submit(l, tier, batch, batched, want->deadline_ms);
  }
}

void neap__loads_start(neap__loads *l, const neap__load_item *items, uint32_t count, const neap__load_for *want) {
  bool room = true;
  for (uint32_t at = 0; at < count; at += TASK_OBJECTS)
    start_some(l, items + at, NEAP_MIN(count - at, TASK_OBJECTS), want, &room);
}

void neap__loads_stats_get(neap__loads *l, neap__loads_stats *out) {
  *out = (neap__loads_stats){.tasks = atomic_load(&l->tasks),
                             .objects = atomic_load(&l->objects),
                             .loaded = atomic_load(&l->loaded),
                             .out_of_room = atomic_load(&l->out_of_room),
                             .not_found = atomic_load(&l->not_found)};
}
