/* SPDX-License-Identifier: MIT
 *
 * groups.c - parts of stores and loads on their way to the inner adapter and back; see wrap.h. Runs on workers, on the
 * inner adapter's threads (done) and on the engine's. host->done and the inner adapter are never called under the lock,
 * and the inner adapter never from its own done: what follows a done is a worker's. */
#include <stdlib.h>

#include "wrap.h"

#define PAGE 4096u

/* --- life --------------------------------------------------------------------------------------------------------- */

uint64_t neap__room_of(const wrap *w, uint64_t bytes) { return (bytes + w->codec->overhead + PAGE - 1) / PAGE * PAGE; }

group *neap__group_new(wrap *w, passage *p, neap_object *objects, uint32_t count, uint64_t room) {
  group *g = calloc(1, sizeof *g + count * (sizeof(neap_object) + sizeof *g->lengths + sizeof *g->places));
  if (!g) return NULL;
  g->w = w;
  g->passage = p;
  g->objects = objects;
  g->count = count;
  g->room = room;
  g->refs = 1;
  g->lengths = (uint64_t *)(g->to_inner + count);
  g->places = (uint32_t *)(g->lengths + count);
  return g;
}

void neap__group_free(group *g) { free(g); }

static void unref(group *g) {
  pthread_mutex_lock(&g->w->lock);
  bool last = --g->refs == 0;
  pthread_mutex_unlock(&g->w->lock);
  if (last) free(g);
}

/* Under the lock. */
static void link_under_way(group *g) {
  wrap *w = g->w;
  w->room_used += g->room;
  g->before = NULL;
  g->next = w->under_way;
  if (g->next) g->next->before = g;
  w->under_way = g;
}

static void unlink_under_way(group *g) {
  wrap *w = g->w;
  w->room_used -= g->room;
  if (g->before) {
    g->before->next = g->next;
  } else {
    w->under_way = g->next;
  }
  if (g->next) g->next->before = g->before;
}

void neap__passage_end(const neap_host *host, passage *p) {
  neap_op *op = p->op;
  if (atomic_fetch_sub(&p->left, 1) != 1) return;
  free(p);
  host->done(host->engine, op);
}

/* Gives back what a group has, but for its part in the operation. */
static passage *dissolve(group *g, int code) {
  passage *p = g->passage;
  for (uint32_t i = 0; i < g->count; i++)
    if (g->objects[i].result == NEAP_UNSETTLED) g->objects[i].result = code;
  free(g->memory);
  pthread_mutex_lock(&g->w->lock);
  unlink_under_way(g);
  pthread_mutex_unlock(&g->w->lock);
  unref(g);
  return p;
}

static void end_with(group *g, int code) {
  wrap *w = g->w;
  const neap_host *host = w->host;
  passage *p = dissolve(g, code);
  neap__groups_admit(w); /* before the operation ends */
  neap__passage_end(host, p);
}

void neap__group_end(group *g) { end_with(g, NEAP_EIO); }

/* --- steps -------------------------------------------------------------------------------------------------------- */

static void take_step(void *arg) {
  group *g = arg;
  g->step(g);
}

static bool start(group *g, void (*step)(group *g)) {
  g->step = step;
  return g->w->host->queue_work(g->w->host->engine, take_step, g) == 0;
}

static void go_on(group *g, void (*step)(group *g)) {
  if (!start(g, step)) end_with(g, NEAP_ELIMIT);
}

void neap__group_done(void *ctx, neap_op *op) {
  group *g = (group *)op;
  (void)ctx;
  pthread_mutex_lock(&g->w->lock);
  g->out = false;
  pthread_mutex_unlock(&g->w->lock);
  g->arrived(g);
}

static void submit(group *g, neap_op_kind kind, uint32_t count, void (*arrived)(group *g)) {
  wrap *w = g->w;
  pthread_mutex_lock(&w->lock);
  bool canceled = g->canceled;
  g->out = !canceled;
  pthread_mutex_unlock(&w->lock);
  if (canceled) {
    end_with(g, NEAP_ECANCELED);
    return;
  }
  neap_op *op = g->passage ? g->passage->op : NULL;
  g->arrived = arrived;
  g->inner.size = sizeof(neap_op);
  g->inner.kind = kind;
  g->inner.count = count;
  g->inner.objects = count ? g->to_inner : NULL;
  g->inner.deadline_ns = op ? op->deadline_ns : 0;
  w->host->inner_submit(w->inner, &g->inner);
}

void neap__group_ask(group *g, neap_op_kind kind, uint32_t count, void (*arrived)(group *g)) {
  pthread_mutex_lock(&g->w->lock);
  link_under_way(g);
  pthread_mutex_unlock(&g->w->lock);
  submit(g, kind, count, arrived);
}

static bool make_memory(group *g) {
  if (!g->memory) g->memory = aligned_alloc(PAGE, g->room);
  return g->memory != NULL;
}

/* --- store -------------------------------------------------------------------------------------------------------- */

static void stored(group *g) {
  wrap *w = g->w;
  for (uint32_t j = 0; j < g->inner.count; j++) {
    const neap_object *in = &g->to_inner[j];
    neap_object *object = &g->objects[g->places[j]];
    object->result = in->result;
    object->stored_bytes = in->result == 0 ? in->stored_bytes : 0;
    if (w->sizes) neap__sizes_put(w->sizes, &in->key, object->stored_bytes ? in->bytes : 0);
  }
  neap__group_end(g);
}

static void encode(group *g) {
  wrap *w = g->w;
  uint64_t at = 0, started = w->host->now_ns(w->host->engine);
  uint32_t count = 0;
  if (!make_memory(g)) {
    end_with(g, NEAP_ENOMEM);
    return;
  }
  for (uint32_t i = 0; i < g->count; i++) {
    neap_object *object = &g->objects[i];
    int64_t bytes = w->codec->encode(w->self, &object->key, object->data, object->bytes, g->memory + at);
    if (bytes < 0) {
      object->result = (int)bytes;
      continue;
    }
    g->to_inner[count] = (neap_object){.key = object->key, .data = g->memory + at, .bytes = (uint64_t)bytes};
    g->places[count++] = i;
    at += neap__room_of(w, object->bytes);
    atomic_fetch_add(&w->plain_in, object->bytes);
    atomic_fetch_add(&w->encoded_in, (uint64_t)bytes);
  }
  atomic_fetch_add(&w->encode_ns, w->host->now_ns(w->host->engine) - started);
  if (count) {
    submit(g, NEAP_OP_STORE, count, stored);
  } else {
    neap__group_end(g);
  }
}

/* --- load --------------------------------------------------------------------------------------------------------- */

/* Makes inner objects of those that are not settled. */
static uint32_t gather(group *g) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < g->count; i++) {
    if (g->objects[i].result != NEAP_UNSETTLED) continue;
    g->to_inner[count] = (neap_object){.key = g->objects[i].key, .bytes = g->lengths[i]};
    g->places[count++] = i;
  }
  return count;
}

int neap__length_result(wrap *w, const neap_object *in, uint64_t bytes) {
  if (in->result) return in->result;
  if (!in->stored_bytes) {
    if (!atomic_exchange(&w->blind, true)) {
      w->host->log(w->host->engine, NEAP_ERROR,
                   "the inner adapter does not tell the size of what it holds; without it nothing can be loaded");
    }
    return NEAP_ENOTSUP;
  }
  if (in->stored_bytes < NEAP_ENVELOPE_HEADER) return NEAP_ECORRUPT;
  return bytes && in->stored_bytes > bytes + w->codec->overhead ? NEAP_ECORRUPT : 0;
}

static void read_encoded(group *g);
static void decode(group *g);

static void sized(group *g) {
  wrap *w = g->w;
  for (uint32_t j = 0; j < g->inner.count; j++) {
    const neap_object *in = &g->to_inner[j];
    neap_object *object = &g->objects[g->places[j]];
    int rc = neap__length_result(w, in, object->bytes);
    g->lengths[g->places[j]] = rc ? 0 : in->stored_bytes;
    neap__sizes_put(w->sizes, &in->key, rc ? 0 : in->stored_bytes);
    if (rc) object->result = rc;
  }
  go_on(g, read_encoded);
}

static void ask_lengths(group *g) {
  g->asked = true;
  for (uint32_t i = 0; i < g->count; i++) g->lengths[i] = 0;
  submit(g, NEAP_OP_LOOKUP, gather(g), sized);
}

/* False: one is not known, or is a guess that cannot be right. */
static bool know_lengths(group *g) {
  const wrap *w = g->w;
  for (uint32_t i = 0; i < g->count; i++) {
    neap_object *object = &g->objects[i];
    uint64_t most = object->bytes + w->codec->overhead;
    if (object->result != NEAP_UNSETTLED) continue;
    if (!w->sizes) g->lengths[i] = most;
    if (!g->lengths[i]) g->lengths[i] = neap__sizes_get(w->sizes, &object->key);
    bool right = g->lengths[i] && g->lengths[i] <= most;
    if (!right && !g->asked) return false;
    if (!right) object->result = NEAP_ECORRUPT;
  }
  return true;
}

static void loaded(group *g) { go_on(g, decode); }

static void read_encoded(group *g) {
  wrap *w = g->w;
  uint64_t at = 0;
  if (!know_lengths(g)) {
    ask_lengths(g);
    return;
  }
  uint32_t count = gather(g);
  if (!count || !make_memory(g)) {
    end_with(g, NEAP_ENOMEM);
    return;
  }
  for (uint32_t j = 0; j < count; j++) {
    g->to_inner[j].data = g->memory + at;
    at += neap__room_of(w, g->objects[g->places[j]].bytes);
  }
  submit(g, NEAP_OP_LOAD, count, loaded);
}

/* Whether a remembered length may have been the reason; then it is forgotten. */
static bool was_guess(group *g, const neap_object *in) {
  if (in->result != NEAP_ECORRUPT || !g->w->sizes || g->asked) return false;
  neap__sizes_put(g->w->sizes, &in->key, 0);
  return true;
}

static void decode(group *g) {
  wrap *w = g->w;
  bool again = false;
  uint64_t started = w->host->now_ns(w->host->engine);
  for (uint32_t j = 0; j < g->inner.count; j++) {
    const neap_object *in = &g->to_inner[j];
    neap_object *object = &g->objects[g->places[j]];
    if (was_guess(g, in)) {
      again = true;
      continue;
    }
    int rc = in->result;
    if (!rc) rc = w->codec->decode(w->self, &object->key, in->data, in->bytes, object->data, object->bytes);
    object->result = rc;
    if (rc == 0) atomic_fetch_add(&w->plain_out, object->bytes);
    if (rc == NEAP_ECORRUPT) atomic_fetch_add(&w->corrupt, 1);
    if (rc && w->sizes) neap__sizes_put(w->sizes, &in->key, 0);
  }
  atomic_fetch_add(&w->decode_ns, w->host->now_ns(w->host->engine) - started);
  if (again) {
    ask_lengths(g);
  } else {
    neap__group_end(g);
  }
}

/* --- the queue ---------------------------------------------------------------------------------------------------- */

void neap__group_queue(group *g, neap_op_kind kind) {
  wrap *w = g->w;
  g->step = kind == NEAP_OP_STORE ? encode : read_encoded;
  pthread_mutex_lock(&w->lock);
  g->next = NULL;
  if (w->first) {
    w->last->next = g;
  } else {
    w->first = g;
  }
  w->last = g;
  w->waiting++;
  pthread_mutex_unlock(&w->lock);
}

/* The first in the queue, if it fits; one that is larger than the bound goes alone. */
static group *take_next(wrap *w, bool *canceled) {
  pthread_mutex_lock(&w->lock);
  group *g = w->first;
  if (g && w->room_used && w->room_used + g->room > w->bound) g = NULL;
  if (g) {
    w->first = g->next;
    w->waiting--;
    link_under_way(g);
    *canceled = g->canceled;
  }
  pthread_mutex_unlock(&w->lock);
  return g;
}

/* The caller has an operation that has not ended: the wrapper is there until this returns. */
void neap__groups_admit(wrap *w) {
  const neap_host *host = w->host;
  group *g;
  bool canceled;
  while ((g = take_next(w, &canceled)) != NULL) {
    int code = canceled ? NEAP_ECANCELED : start(g, g->step) ? 0 : NEAP_ELIMIT;
    if (code) neap__passage_end(host, dissolve(g, code));
  }
}

/* --- cancel ------------------------------------------------------------------------------------------------------- */

/* Marks all groups of op; one that the inner adapter has and that it was not told of, or NULL. Under the lock. */
static group *mark_canceled(wrap *w, const neap_op *op) {
  for (group *g = w->first; g; g = g->next) g->canceled |= g->passage->op == op;
  for (group *g = w->under_way; g; g = g->next) {
    if (!g->passage || g->passage->op != op || (g->canceled && g->out)) continue;
    g->canceled = true;
    if (g->out) return g;
  }
  return NULL;
}

void neap__groups_cancel(wrap *w, const neap_op *op) {
  for (;;) {
    pthread_mutex_lock(&w->lock);
    group *g = mark_canceled(w, op);
    if (g) g->refs++;
    pthread_mutex_unlock(&w->lock);
    if (!g) return;
    w->host->inner_cancel(w->inner, &g->inner);
    unref(g);
  }
}
