/* SPDX-License-Identifier: MIT
 *
 * policy/ghost_cache.c - see ghost_cache.h.
 *
 * Chunk numbers are dense, so what is where is an array: `slot_of` by number. `kids` counts by number how many resident
 * chunks continue a chunk, whether it is resident itself or not; a victim that has some is an orphaning eviction, and a
 * policy that asks for leaves hears of every change. Events are buffered and delivered before anything is decided. */
#include "policy/ghost_cache.h"

#include <inttypes.h>
#include <stdlib.h>

#define NOWHERE NEAP_POLICY_NO_SLOT
#define EVENTS 256u
#define BATCH_MAX 1024u

typedef struct place {
  uint32_t slot; /* NOWHERE: not resident */
  uint32_t kids;
} place;

/* What a slot has. It is all in one place, for what is evicted was used long ago: what `place` and the lineage say of
 * it has left the processor's cache. */
typedef struct held {
  uint32_t number; /* of a free slot: the next free one */
  uint32_t parent;
  uint32_t kids; /* as in place */
  uint32_t units;
} held;

struct neap__ghost_cache {
  neap__ghost_config config;
  neap__instance *instance;
  neap_chunk *row;
  place *place;       /* [numbers] */
  held *held;         /* [slots] */
  uint32_t *next;     /* [slots] */
  uint32_t free_slot; /* NOWHERE: none */
  uint32_t event_count;
  uint32_t wants;
  uint32_t residents;
  bool leaves;    /* somebody asks for them */
  bool sized;     /* requests tell sizes: how many objects fit is known when it is full */
  neap_event now; /* what all events of the request have in common */
  neap__ghost_stats stats;
  uint32_t victims[BATCH_MAX];
  neap_event events[EVENTS];
};

static uint16_t saturated(uint32_t count) { return (uint16_t)NEAP_MIN(count, UINT16_MAX); }

/* --- events --------------------------------------------------------------------------------------------------- */

static void flush(neap__ghost_cache *c) {
  neap__instance_deliver(c->instance, c->events, c->event_count);
  c->event_count = 0;
}

static neap_event *emit_named(neap__ghost_cache *c, neap_event_type type, uint32_t slot, uint32_t h1, uint32_t h2) {
  if (c->event_count == EVENTS) flush(c);
  neap_event *ev = &c->events[c->event_count++];
  *ev = (neap_event){.slot = slot,
                     .type = (uint8_t)type,
                     .h1 = h1,
                     .h2 = h2,
                     .request = c->now.request,
                     .tenant = c->now.tenant,
                     .time_ms = c->now.time_ms};
  return ev;
}

static neap_event *emit(neap__ghost_cache *c, neap_event_type type, uint32_t slot, uint32_t number) {
  uint64_t hash = c->config.lineage->hash[number];
  return emit_named(c, type, slot, (uint32_t)hash, (uint32_t)(hash >> 32));
}

/* --- who continues whom --------------------------------------------------------------------------------------- */

/* kids of a chunk are another number now. */
static void kids_changed(neap__ghost_cache *c, uint32_t number, neap_event_type change) {
  const place *p = &c->place[number];
  if (p->slot == NOWHERE) return;
  c->held[p->slot].kids = p->kids;
  if (!c->leaves) return;
  c->row[p->slot].children = saturated(p->kids);
  if (change) emit(c, change, p->slot, number);
}

static void arrived(neap__ghost_cache *c, uint32_t number, uint32_t parent) {
  uint32_t kids = c->place[number].kids;
  if (kids || c->leaves) kids_changed(c, number, kids ? NEAP_EV_UNLEAF : 0);
  if (parent == NEAP__NO_CHUNK) return;
  kids = ++c->place[parent].kids;
  kids_changed(c, parent, kids == 1 ? NEAP_EV_UNLEAF : 0);
}

static void left(neap__ghost_cache *c, uint32_t parent) {
  if (parent == NEAP__NO_CHUNK) return;
  uint32_t kids = --c->place[parent].kids;
  kids_changed(c, parent, kids == 0 ? NEAP_EV_LEAF : 0);
}

/* --- going and coming ----------------------------------------------------------------------------------------- */

static void remove_slot(neap__ghost_cache *c, uint32_t slot, neap_remove_reason reason) {
  held *h = &c->held[slot];
  const neap_chunk *row = &c->row[slot];
  neap_event *ev = emit_named(c, NEAP_EV_REMOVE, slot, row->h1, row->h2);
  ev->detail = (uint8_t)reason;
  ev->tenant = row->tenant, ev->kib = row->kib, ev->pos = row->pos;
  c->residents--;
  c->stats.used -= h->units;
  c->place[h->number].slot = NOWHERE;
  h->number = c->free_slot;
  c->free_slot = slot;
  left(c, h->parent);
}

/* False if nothing may go. */
static bool evict(neap__ghost_cache *c) {
  flush(c);
  if (c->sized) neap__instance_context(c->instance)->capacity = c->residents;
  uint32_t count = neap__instance_victims(c->instance, NEAP_SCOPE_ALL, c->victims, c->config.batch);
  for (uint32_t i = 0; i < count; i++) {
    c->stats.evictions++;
    c->stats.orphan_evictions += c->held[c->victims[i]].kids != 0;
    remove_slot(c, c->victims[i], NEAP_REMOVE_EVICT);
  }
  return count != 0;
}

static bool make_room(neap__ghost_cache *c, uint64_t units) {
  if (units > c->config.capacity) return false;
  while (c->free_slot == NOWHERE || c->stats.used + units > c->config.capacity)
    if (!evict(c)) return false;
  return true;
}

static void insert(neap__ghost_cache *c, const neap__ghost_request *r, uint32_t number, uint32_t pos) {
  uint32_t units = r->units ? r->units[number] : 1;
  if (c->wants & NEAP_WANTS(MISS)) emit(c, NEAP_EV_MISS, NEAP_POLICY_NO_SLOT, number)->pos = saturated(pos);
  if (!make_room(c, units)) {
    c->stats.bypassed++;
    return;
  }
  uint32_t slot = c->free_slot, parent = c->config.lineage->parent[number];
  c->free_slot = c->held[slot].number;
  c->held[slot] = (held){.number = number, .parent = parent, .units = units};
  if (r->next) c->next[slot] = r->next[pos];
  c->place[number].slot = slot;
  c->residents++;
  c->sized = r->units != NULL;
  c->stats.used += units;
  neap_event *ev = emit(c, NEAP_EV_INSERT, slot, number);
  ev->kib = units;
  ev->pos = saturated(pos);
  arrived(c, number, parent);
}

static void touch(neap__ghost_cache *c, const neap__ghost_request *r, uint32_t pos) {
  uint32_t number = r->chunk[pos], slot = c->place[number].slot;
  if (slot == NOWHERE) {
    if (!r->pass || !r->pass[pos]) insert(c, r, number, pos);
    return;
  }
  c->stats.hits++;
  if (r->next) c->next[slot] = r->next[pos];
  neap_event *ev = emit(c, NEAP_EV_HIT, slot, number);
  ev->kib = c->held[slot].units;
  ev->pos = saturated(pos);
}

/* A trace has more chunks than a processor's cache has room for, and each is somewhere else. */
static void fetch_soon(const neap__ghost_cache *c, const neap__ghost_request *r) {
  for (uint32_t i = 0; i < r->soon_count; i++) {
    uint32_t number = r->soon[i];
    __builtin_prefetch(&c->place[number], 1);
    __builtin_prefetch(&c->config.lineage->hash[number]);
    __builtin_prefetch(&c->config.lineage->parent[number]);
  }
}

void neap__ghost_use(neap__ghost_cache *c, const neap__ghost_request *r, neap__ghost_answer *answer) {
  uint32_t prefix = 0, hits = 0;
  fetch_soon(c, r);
  for (uint32_t i = 0; i < r->chunks; i++) {
    bool there = c->place[r->chunk[i]].slot != NOWHERE;
    hits += there;
    prefix += there && prefix == i;
  }
  c->now = (neap_event){.request = r->request, .tenant = r->tenant, .time_ms = r->time_ms};
  if (c->wants & NEAP_WANTS(REQUEST)) {
    neap_event *ev =
        emit_named(c, NEAP_EV_REQUEST, NEAP_POLICY_NO_SLOT, (uint32_t)r->session, (uint32_t)(r->session >> 32));
    ev->pos = saturated(r->chunks);
  }
  uint64_t before = c->stats.hits;
  for (uint32_t i = 0; i < r->chunks; i++) touch(c, r, c->config.head_first ? i : r->chunks - 1 - i);
  c->stats.requests++;
  c->stats.accesses += r->chunks;
  c->stats.prefix_hits += prefix;
  *answer = (neap__ghost_answer){.hits = hits, .prefix = prefix, .touched = (uint32_t)(c->stats.hits - before)};
}

void neap__ghost_forget(neap__ghost_cache *c, uint32_t number) {
  if (c->place[number].slot == NOWHERE) return;
  flush(c); /* its row may not have heard of it yet */
  remove_slot(c, c->place[number].slot, NEAP_REMOVE_DELETE);
}

/* --- life ----------------------------------------------------------------------------------------------------- */

static uint32_t slots_for(const neap__ghost_config *config) {
  if (config->slots) return config->slots;
  return (uint32_t)NEAP_MAX(NEAP_MIN(config->capacity, config->numbers), 1);
}

static int open_arrays(neap__ghost_cache *c, uint32_t slots) {
  c->place = malloc(sizeof(*c->place) * NEAP_MAX(c->config.numbers, 1));
  c->held = malloc(sizeof(*c->held) * slots);
  c->next = malloc(sizeof(*c->next) * slots);
  if (!c->place || !c->held || !c->next) return NEAP_ENOMEM;
  for (uint32_t i = 0; i < c->config.numbers; i++) c->place[i] = (place){.slot = NOWHERE};
  for (uint32_t i = 0; i < slots; i++) c->held[i].number = i + 1 < slots ? i + 1 : NOWHERE, c->next[i] = NOWHERE;
  return 0;
}

int neap__ghost_open(const neap__ghost_config *config, neap__ghost_cache **out, neap_error *err) {
  if (config->capacity == 0) return neap__fail(err, NEAP_EINVAL, "capacity is 0; expected at least 1");
  neap__ghost_cache *c = calloc(1, sizeof(*c));
  if (c == NULL) return neap__fail(err, NEAP_ENOMEM, "no memory for a ghost cache");
  uint32_t slots = slots_for(config);
  c->config = *config;
  c->config.batch = NEAP_MIN(NEAP_MAX(config->batch, 1), BATCH_MAX);
  int rc = open_arrays(c, slots);
  if (rc) neap__fail(err, rc, "no memory for a ghost cache of %" PRIu32 " objects", slots);
  const neap__instance_config instance = {.policy = config->policy,
                                          .params = config->params,
                                          .slots = slots,
                                          .capacity = (uint32_t)NEAP_MIN(config->capacity, UINT32_MAX),
                                          .seed = config->seed,
                                          .cost = config->cost,
                                          .next = c->next};
  if (!rc) rc = neap__instance_open(&instance, &c->instance, err);
  if (rc) {
    neap__ghost_close(c);
    return rc;
  }
  c->row = neap__instance_chunks(c->instance);
  c->wants = config->policy->wants;
  c->leaves = config->policy->constraint & NEAP_EVICT_LEAF || c->wants & (NEAP_WANTS(LEAF) | NEAP_WANTS(UNLEAF));
  *out = c;
  return 0;
}

void neap__ghost_close(neap__ghost_cache *c) {
  if (c == NULL) return;
  neap__instance_close(c->instance);
  free(c->place);
  free(c->held);
  free(c->next);
  free(c);
}

void neap__ghost_stats_get(neap__ghost_cache *c, neap__ghost_stats *out) {
  flush(c);
  *out = c->stats;
  neap__instance_stats_get(c->instance, &out->policy);
}

uint32_t neap__ghost_slot(const neap__ghost_cache *c, uint32_t number) { return c->place[number].slot; }

void neap__ghost_tell(neap__ghost_cache *c, neap_event_type type, uint32_t number, uint8_t tier) {
  uint32_t slot = c->place[number].slot;
  if (slot == NOWHERE) return;
  neap_event *ev = emit(c, type, slot, number);
  ev->detail = tier;
  ev->kib = c->held[slot].units;
}

void neap__ghost_flush(neap__ghost_cache *c) { flush(c); }

neap__instance *neap__ghost_instance(neap__ghost_cache *c) { return c->instance; }
