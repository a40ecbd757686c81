/* SPDX-License-Identifier: MIT
 *
 * policy/stream.c - carries events of any thread to the policy and asks it for victims.
 *
 * Two buffers: threads fill one under `fill_lock` while the other is delivered under `policy_lock`, so reporting an
 * event waits for the policy only when the buffer is full. Locks are taken in the order policy_lock, fill_lock; taking
 * the first before swapping the buffers is what keeps the order of events. The instance is entered under policy_lock.
 *
 * While leaves are wanted, prompts travel among the events, and what is delivered passes through the tree, which adds
 * LEAF and UNLEAF where they belong. */
#include "policy/stream.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policies/builtin.h"
#include "policy/tree.h"

#define STREAM_EVENTS 4096u
#define PASSED_EVENTS 512u
#define LEAVES (NEAP_WANTS(LEAF) | NEAP_WANTS(UNLEAF))
#define CHAIN 255u /* the type of an event that is a chunk of a prompt; detail: neap__tree_step */
#define CHAIN_EVENTS 64u

typedef struct event_buffer {
  uint32_t count;
  bool chains; /* some are */
  neap_event events[STREAM_EVENTS];
} event_buffer;

struct neap__stream {
  pthread_mutex_t fill_lock;
  event_buffer *fill; /* under fill_lock */

  pthread_mutex_t policy_lock; /* all below */
  event_buffer *deliver;
  neap__instance *instance;
  neap__tree *tree; /* NULL unless leaves are wanted */
  uint32_t passed_count, time_ms;
  bool said_out;
  neap_event passed[PASSED_EVENTS];

  event_buffer buffers[2];
  uint32_t slots;
  _Atomic uint32_t wants;
  void (*told)(void *ctx, uint32_t wants);
  void *told_ctx;
};

/* --- life ----------------------------------------------------------------------------------------------------- */

static void note_out(neap__stream *s) {
  bool out = !neap__instance_works(s->instance);
  neap__instance_stats stats;
  if (out && !s->said_out) {
    neap__instance_stats_get(s->instance, &stats);
    NEAP_LOG_ERROR("policy %s is out, the built-in LRU goes on: %s", neap__instance_policy(s->instance)->name,
                   stats.why.text);
  }
  s->said_out = out;
}

/* Under policy_lock, after each call into the instance: the policy may be another one, or out. */
static void note_wants(neap__stream *s) {
  const neap_policy *p = neap__instance_policy(s->instance);
  uint32_t wants = neap__instance_wants(s->instance);
  if (neap__instance_works(s->instance)) {
    wants |= p->store_plan ? NEAP__HAS_STORE_PLAN : 0;
    wants |= p->load_plan ? NEAP__HAS_LOAD_PLAN : 0;
    wants |= p->on_hint ? NEAP__HAS_HINT : 0;
    wants |= p->predict ? NEAP__HAS_PREDICT : 0;
  }
  if (wants != atomic_load_explicit(&s->wants, memory_order_relaxed)) atomic_store(&s->wants, wants);
}

static void leaf_changed(void *ctx, neap_event_type change, uint32_t slot, uint64_t hash, uint32_t tenant);

/* Residents are known from their rows; what continues what has to be learnt. Under policy_lock, or while opening. */
static int plant_tree(neap__stream *s, neap_error *err) {
  neap_chunk *rows = neap__instance_chunks(s->instance);
  int rc = neap__tree_open(s->slots, rows, leaf_changed, s, &s->tree);
  if (rc != 0) return neap__fail(err, rc, "no memory to tell the leaves among %" PRIu32 " slots", s->slots);
  for (uint32_t slot = 0; slot < s->slots; slot++) {
    const neap_chunk *row = &rows[slot];
    if (row->state != 0) neap__tree_insert(s->tree, slot, (uint64_t)row->h2 << 32 | row->h1, row->tenant);
  }
  return 0;
}

static void drop_tree(neap__stream *s) {
  neap__tree_close(s->tree);
  s->tree = NULL;
}

int neap__stream_open(const neap__instance_config *config, neap__stream **out, neap_error *err) {
  neap__stream *s = calloc(1, sizeof(*s));
  if (s == NULL) return neap__fail(err, NEAP_ENOMEM, "no memory for the events of %" PRIu32 " slots", config->slots);
  int rc = neap__instance_open(config, &s->instance, err);
  if (rc != 0) {
    free(s);
    return rc;
  }
  s->slots = config->slots;
  if (neap__instance_wants(s->instance) & LEAVES && (rc = plant_tree(s, err)) != 0) {
    neap__instance_close(s->instance);
    free(s);
    return rc;
  }
  s->fill = &s->buffers[0];
  s->deliver = &s->buffers[1];
  pthread_mutex_init(&s->fill_lock, NULL);
  pthread_mutex_init(&s->policy_lock, NULL);
  note_wants(s);
  *out = s;
  return 0;
}

void neap__stream_close(neap__stream *stream) {
  if (stream == NULL) return;
  drop_tree(stream);
  neap__instance_close(stream->instance);
  pthread_mutex_destroy(&stream->policy_lock);
  pthread_mutex_destroy(&stream->fill_lock);
  free(stream);
}

void neap__stream_on_switch(neap__stream *stream, void (*told)(void *ctx, uint32_t wants), void *ctx) {
  stream->told = told;
  stream->told_ctx = ctx;
}

uint32_t neap__stream_wants(const neap__stream *stream) {
  return atomic_load_explicit(&stream->wants, memory_order_relaxed);
}

const _Atomic uint32_t *neap__stream_wants_word(const neap__stream *stream) { return &stream->wants; }

/* --- events --------------------------------------------------------------------------------------------------- */

static void pass_on(neap__stream *s) {
  neap__instance_deliver(s->instance, s->passed, s->passed_count);
  s->passed_count = 0;
}

static void pass(neap__stream *s, const neap_event *event) {
  if (s->passed_count == PASSED_EVENTS) pass_on(s);
  s->passed[s->passed_count++] = *event;
}

static uint64_t hash_of(const neap_event *event) { return (uint64_t)event->h2 << 32 | event->h1; }

static void leaf_changed(void *ctx, neap_event_type change, uint32_t slot, uint64_t hash, uint32_t tenant) {
  neap__stream *s = ctx;
  const neap_event event = {.slot = slot,
                            .type = (uint8_t)change,
                            .h1 = (uint32_t)hash,
                            .h2 = (uint32_t)(hash >> 32),
                            .tenant = tenant,
                            .time_ms = s->time_ms};
  pass(s, &event);
}

static void deliver_through_tree(neap__stream *s, const neap_event *events, uint32_t count) {
  for (const neap_event *ev = events; ev < events + count; ev++) {
    if (ev->type == CHAIN) {
      if (s->tree) neap__tree_learn(s->tree, hash_of(ev), ev->tenant, (neap__tree_step)ev->detail);
      continue;
    }
    s->time_ms = ev->time_ms;
    pass(s, ev);
    if (s->tree && ev->type == NEAP_EV_INSERT) neap__tree_insert(s->tree, ev->slot, hash_of(ev), ev->tenant);
    if (s->tree && ev->type == NEAP_EV_REMOVE) neap__tree_remove(s->tree, ev->slot);
  }
  pass_on(s);
}

static void deliver_pending(neap__stream *s) { /* under policy_lock */
  pthread_mutex_lock(&s->fill_lock);
  event_buffer *full = s->fill;
  s->fill = s->deliver;
  s->deliver = full;
  pthread_mutex_unlock(&s->fill_lock);
  if (full->count == 0) return;

  if (s->tree || full->chains)
    deliver_through_tree(s, full->events, full->count);
  else
    neap__instance_deliver(s->instance, full->events, full->count);
  full->count = 0;
  full->chains = false;
}

/* Everything that enters the instance does so between these two. */
static neap__instance *enter(neap__stream *s) {
  pthread_mutex_lock(&s->policy_lock);
  deliver_pending(s);
  return s->instance;
}

static void leave(neap__stream *s) {
  note_out(s);
  note_wants(s);
  if (s->tree && !(atomic_load_explicit(&s->wants, memory_order_relaxed) & LEAVES)) drop_tree(s);
  pthread_mutex_unlock(&s->policy_lock);
}

void neap__stream_flush(neap__stream *stream) {
  enter(stream);
  leave(stream);
}

/* All of them or none, so that a request stays in one piece. */
static bool append(neap__stream *s, const neap_event *events, uint32_t count) {
  pthread_mutex_lock(&s->fill_lock);
  bool fits = count <= STREAM_EVENTS - s->fill->count;
  if (fits) {
    s->fill->chains |= events[0].type == CHAIN;
    memcpy(&s->fill->events[s->fill->count], events, count * sizeof(*events));
    s->fill->count += count;
  }
  pthread_mutex_unlock(&s->fill_lock);
  return fits;
}

void neap__stream_emit(void *stream, const neap_event *events, uint32_t count) {
  neap__stream *s = stream;
  for (uint32_t i = 0; i < count; i++) NEAP_ASSERT(events[i].slot < s->slots || events[i].slot == NEAP_POLICY_NO_SLOT);
  while (count > 0) {
    uint32_t part = NEAP_MIN(count, STREAM_EVENTS);
    while (!append(s, events, part)) neap__stream_flush(s);
    events += part;
    count -= part;
  }
}

void neap__stream_chain(neap__stream *s, uint32_t tenant, const void *hash, size_t stride, uint32_t count) {
  if (!(neap__stream_wants(s) & LEAVES)) return;
  neap_event events[CHAIN_EVENTS];
  uint32_t filled = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (filled == CHAIN_EVENTS) { /* what others append may come in between: the next part says where it goes on */
      neap__stream_emit(s, events, filled);
      events[0] = events[filled - 1];
      events[0].detail = NEAP__TREE_RESUME;
      filled = 1;
    }
    neap_event *ev = &events[filled++];
    *ev = (neap_event){.slot = NEAP_POLICY_NO_SLOT, .type = CHAIN, .tenant = tenant};
    ev->detail = i == 0 ? NEAP__TREE_FIRST : NEAP__TREE_NEXT;
    memcpy(&ev->h1, (const char *)hash + i * stride, sizeof(ev->h1));
    memcpy(&ev->h2, (const char *)hash + i * stride + sizeof(ev->h1), sizeof(ev->h2));
  }
  if (filled > 0) neap__stream_emit(s, events, filled);
}

void neap__stream_keep(neap__stream *stream, uint32_t slot) {
  const neap_event keep = {.slot = slot, .type = NEAP_EV_KEEP};
  neap__stream_emit(stream, &keep, 1);
}

void neap__stream_full(neap__stream *stream) {
  neap__instance_stats stats;
  neap__instance *in = enter(stream);
  neap__instance_stats_get(in, &stats);
  neap__instance_context(in)->capacity = NEAP_MAX(stats.residents, 1);
  leave(stream);
}

/* Before the switch, so that the new policy hears of what is no leaf. A tree that nobody wants then goes with leave. */
static int make_leaves_known(neap__stream *s, const neap_policy *policy, neap_error *err) {
  bool readable = policy && policy->magic == NEAP_POLICY_MAGIC && policy->abi == NEAP_POLICY_ABI;
  bool wanted = readable && (policy->wants & LEAVES || policy->constraint & NEAP_EVICT_LEAF);
  return wanted && !s->tree ? plant_tree(s, err) : 0;
}

int neap__stream_switch(neap__stream *stream, const neap_policy *policy, const char *params, neap_error *err) {
  neap__instance *in = enter(stream);
  int rc = make_leaves_known(stream, policy, err);
  if (rc == 0) rc = neap__instance_switch(in, policy, params, err);
  leave(stream);
  if (rc == 0 && stream->told) stream->told(stream->told_ctx, neap__stream_wants(stream));
  return rc;
}

/* --- questions ------------------------------------------------------------------------------------------------ */

uint32_t neap__stream_victims(neap__stream *stream, uint32_t scope, uint32_t *out, uint32_t max) {
  if (max == 0) return 0;
  neap__instance *in = enter(stream);
  uint32_t got = neap__instance_victims(in, scope, out, max);
  leave(stream);
  return got;
}

/* What the rows say of chunks; a slot may hold another object by now. */
static void complete_rows(neap__instance *in, neap_plan_chunk *chunks, uint32_t count) {
  const neap_chunk *rows = neap__instance_chunks(in);
  const neap_policy_context *context = neap__instance_context(in);
  for (uint32_t i = 0; i < count; i++) {
    neap_plan_chunk *c = &chunks[i];
    double cost = context->cost.base_us + context->cost.slope_us * c->pos;
    c->recompute_us = (uint32_t)NEAP_MIN(NEAP_MAX(cost, 0), (double)UINT32_MAX);
    c->hits = 0;
    if (c->slot >= context->slots) continue;
    const neap_chunk *row = &rows[c->slot];
    if (row->state == 0 || row->h1 != c->h1 || row->h2 != c->h2) continue;
    c->hits = row->hits;
    c->tiers |= row->tiers;
  }
}

bool neap__stream_store_plan(neap__stream *stream, neap_store_plan *plan, neap_plan_chunk *chunks) {
  if (!(neap__stream_wants(stream) & NEAP__HAS_STORE_PLAN)) return false;
  neap__instance *in = enter(stream);
  complete_rows(in, chunks, plan->chunks);
  plan->chunk = chunks;
  bool planned = neap__instance_store_plan(in, plan);
  leave(stream);
  return planned;
}

bool neap__stream_load_plan(neap__stream *stream, neap_load_plan *plan, neap_plan_chunk *chunks) {
  if (!(neap__stream_wants(stream) & NEAP__HAS_LOAD_PLAN)) return false;
  neap__instance *in = enter(stream);
  complete_rows(in, chunks, plan->chunks);
  plan->chunk = chunks;
  bool planned = neap__instance_load_plan(in, plan);
  leave(stream);
  return planned;
}

bool neap__stream_hint(neap__stream *stream, const neap_hint *hints, uint32_t count) {
  if (!(neap__stream_wants(stream) & NEAP__HAS_HINT)) return false;
  neap__instance_hint(enter(stream), hints, count);
  leave(stream);
  return true;
}

uint32_t neap__stream_predict(neap__stream *stream, neap_hint *out, uint32_t max) {
  if (!(neap__stream_wants(stream) & NEAP__HAS_PREDICT)) return 0;
  uint32_t got = neap__instance_predict(enter(stream), out, max);
  leave(stream);
  return got;
}

void neap__stream_stats_get(neap__stream *stream, neap__stream_stats *out) {
  neap__instance *in = enter(stream);
  const neap_policy_context *context = neap__instance_context(in);
  *out = (neap__stream_stats){.policy = neap__instance_policy(in)->name, .capacity = context->capacity};
  snprintf(out->params, sizeof(out->params), "%s", context->params);
  neap__instance_stats_get(in, &out->instance);
  leave(stream);
}

neap_chunk neap__stream_row(neap__stream *stream, uint32_t slot) {
  const neap_chunk *rows = neap__instance_chunks(enter(stream));
  neap_chunk row = slot < stream->slots ? rows[slot] : (neap_chunk){0};
  leave(stream);
  return row;
}
