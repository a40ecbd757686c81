/* SPDX-License-Identifier: MIT
 *
 * policy/arc.c - adaptive replacement cache (Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache",
 * FAST 2003). T1 holds what was used once, T2 what was used again; B1 and B2 remember what was evicted from them, and a
 * return from B1 or B2 moves the target size p of T1 up or down.
 *
 * Where it departs from the paper, because the engine evicts in batches and ahead of demand: the capacity c is the
 * largest number of residents seen; victims are named before the arrival that needs the room is known, so T1 gives
 * while |T1| >= max(1, p); only REMOVE with reason EVICT leaves a ghost.
 *
 * Ghosts are exact (hash and tenant, no fingerprint: an inexact history tears holes into prefixes) and at most as many
 * as slots. One hash may be many objects, one per rank, so equal ghosts may coexist and a return takes one of them.
 * At most 52 bytes per slot, the ghosts' part untouched until something is evicted. Entered from one thread at a
 * time (the stream's lock). */
#include <stdlib.h>

#include "base/base.h"
#include "policy/builtin.h"

enum { ONCE = 0, AGAIN = 1 }; /* T1 and B1, T2 and B2 */

typedef struct arc_node {
  neap__link link;
  uint32_t tenant;
  uint8_t place; /* neap__place */
  uint8_t side;  /* ONCE or AGAIN; of a proposed slot: where KEEP puts it back, where its ghost goes */
} arc_node;

typedef struct ghost {
  neap__link link;
  uint32_t h1, h2, tenant;
  uint32_t chain; /* next in the same bucket; of a free ghost: next free one */
  uint32_t side;
} ghost;

typedef struct arc {
  neap__list t[2], b[2];
  arc_node *nodes;   /* slots + 1, see builtin.h */
  ghost *ghosts;     /* slots + 1 */
  uint32_t *buckets; /* bucket_mask + 1 chains of ghosts */
  uint32_t bucket_mask;
  uint32_t ghosts_free, ghosts_used; /* head of the free ones; highest number ever used */
  uint32_t slots;
  uint32_t residents, capacity;
  double p;
} arc;

/* --- ghosts --------------------------------------------------------------------------------------------------- */

static uint32_t *bucket_of(arc *a, uint32_t h1, uint32_t h2, uint32_t tenant) {
  const uint32_t key[3] = {h1, h2, tenant};
  return &a->buckets[neap__hash64(key, sizeof(key), 0) & a->bucket_mask];
}

static uint32_t ghost_find(arc *a, const neap_event *ev) {
  uint32_t g = *bucket_of(a, ev->h1, ev->h2, ev->tenant);
  for (; g != 0; g = a->ghosts[g].chain) {
    const ghost *gh = &a->ghosts[g];
    if (gh->h1 == ev->h1 && gh->h2 == ev->h2 && gh->tenant == ev->tenant) return g;
  }
  return 0;
}

static void ghost_drop(arc *a, uint32_t g) {
  ghost *gh = &a->ghosts[g];
  uint32_t *at = bucket_of(a, gh->h1, gh->h2, gh->tenant);
  while (*at != g) at = &a->ghosts[*at].chain;
  *at = gh->chain;
  neap__list_unlink(&a->b[gh->side], a->ghosts, sizeof(ghost), g);
  gh->chain = a->ghosts_free;
  a->ghosts_free = g;
}

static void ghost_drop_oldest(arc *a) {
  ghost_drop(a, a->b[AGAIN].count != 0 ? a->b[AGAIN].oldest : a->b[ONCE].oldest);
}

static void ghost_add(arc *a, const neap_event *ev, uint32_t side) {
  if (a->b[ONCE].count + a->b[AGAIN].count == a->slots) ghost_drop_oldest(a);
  uint32_t g = a->ghosts_free;
  if (g != 0)
    a->ghosts_free = a->ghosts[g].chain;
  else
    g = ++a->ghosts_used;
  uint32_t *bucket = bucket_of(a, ev->h1, ev->h2, ev->tenant);
  a->ghosts[g] = (ghost){.h1 = ev->h1, .h2 = ev->h2, .tenant = ev->tenant, .chain = *bucket, .side = side};
  *bucket = g;
  neap__list_append(&a->b[side], a->ghosts, sizeof(ghost), g);
}

/* The paper's bounds: |T1| + |B1| <= c and everything together <= 2c. */
static void ghosts_trim(arc *a) {
  while (a->b[ONCE].count != 0 && (uint64_t)a->t[ONCE].count + a->b[ONCE].count > a->capacity)
    ghost_drop(a, a->b[ONCE].oldest);
  while (a->b[ONCE].count + a->b[AGAIN].count != 0 &&
         (uint64_t)a->residents + a->b[ONCE].count + a->b[AGAIN].count > 2 * (uint64_t)a->capacity)
    ghost_drop_oldest(a);
}

/* --- residents ------------------------------------------------------------------------------------------------ */

static void arc_take(arc *a, uint32_t i, neap__place place) {
  arc_node *node = &a->nodes[i];
  if (node->place == NEAP__LISTED) neap__list_unlink(&a->t[node->side], a->nodes, sizeof(arc_node), i);
  node->place = (uint8_t)place;
}

static void arc_put_newest(arc *a, uint32_t i, uint32_t side) {
  arc_take(a, i, NEAP__LISTED);
  a->nodes[i].side = (uint8_t)side;
  neap__list_append(&a->t[side], a->nodes, sizeof(arc_node), i);
}

/* A return from B1 says that T1 was too small, one from B2 that T2 was; the scarcer ghost speaks the louder. */
static void adapt(arc *a, uint32_t side) {
  double same = a->b[side].count;
  double other = a->b[!side].count;
  double step = NEAP_MAX(1.0, other / same);
  a->p = side == ONCE ? NEAP_MIN((double)a->capacity, a->p + step) : NEAP_MAX(0.0, a->p - step);
}

static void arc_insert(arc *a, const neap_event *ev) {
  uint32_t i = ev->slot + 1;
  uint32_t side = ONCE;
  if (a->nodes[i].place == NEAP__ABSENT) a->residents++;
  a->capacity = NEAP_MAX(a->capacity, a->residents);
  uint32_t g = ghost_find(a, ev);
  if (g != 0) {
    adapt(a, a->ghosts[g].side);
    ghost_drop(a, g);
    side = AGAIN;
  }
  arc_put_newest(a, i, side);
  a->nodes[i].tenant = ev->tenant;
  ghosts_trim(a);
}

static void arc_remove(arc *a, const neap_event *ev) {
  uint32_t i = ev->slot + 1;
  if (a->nodes[i].place == NEAP__ABSENT) return;
  arc_take(a, i, NEAP__ABSENT);
  a->residents--;
  if (ev->detail == NEAP_REMOVE_EVICT) ghost_add(a, ev, a->nodes[i].side);
  ghosts_trim(a);
}

static int arc_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  arc *a = self;
  for (uint32_t n = 0; n < count; n++) {
    const neap_event *ev = &events[n];
    arc_node *node = &a->nodes[ev->slot + 1];
    if (ev->type == NEAP_EV_INSERT) {
      arc_insert(a, ev);
    } else if (ev->type == NEAP_EV_REMOVE) {
      arc_remove(a, ev);
    } else if (ev->type == NEAP_EV_HIT) {
      if (node->place == NEAP__LISTED) arc_put_newest(a, ev->slot + 1, AGAIN);
      node->side = AGAIN;
    } else if (ev->type == NEAP_EV_KEEP && node->place != NEAP__ABSENT) {
      arc_put_newest(a, ev->slot + 1, node->side);
    }
  }
  return 0;
}

/* --- victims -------------------------------------------------------------------------------------------------- */

/* The oldest of a side that is in scope, from node i on; 0 if there is none. */
static uint32_t in_scope(const arc *a, uint32_t i, uint32_t scope) {
  while (i != 0 && scope != NEAP_SCOPE_ALL && a->nodes[i].tenant != scope) i = a->nodes[i].link.next;
  return i;
}

static int arc_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  arc *a = self;
  uint32_t got = 0;
  uint32_t next[2] = {in_scope(a, a->t[ONCE].oldest, scope), in_scope(a, a->t[AGAIN].oldest, scope)};
  while (got < max && (next[ONCE] | next[AGAIN]) != 0) {
    uint32_t side = (double)a->t[ONCE].count >= NEAP_MAX(1.0, a->p) ? ONCE : AGAIN;
    if (next[side] == 0) side = !side;
    uint32_t i = next[side];
    next[side] = in_scope(a, a->nodes[i].link.next, scope);
    arc_take(a, i, NEAP__PROPOSED);
    out[got++] = i - 1;
  }
  return (int)got;
}

/* --- life ----------------------------------------------------------------------------------------------------- */

static void arc_destroy(void *self) {
  arc *a = self;
  if (a == NULL) return;
  free(a->nodes);
  free(a->ghosts);
  free(a->buckets);
  free(a);
}

static int arc_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  (void)policy;
  arc *a = calloc(1, sizeof(*a));
  if (a == NULL) goto no_memory;
  uint32_t buckets = 1;
  while (buckets < context->slots && buckets < 1u << 31) buckets *= 2;
  a->slots = context->slots;
  a->bucket_mask = buckets - 1;
  a->nodes = calloc((size_t)a->slots + 1, sizeof(*a->nodes));
  a->ghosts = calloc((size_t)a->slots + 1, sizeof(*a->ghosts));
  a->buckets = calloc(buckets, sizeof(*a->buckets));
  if (a->nodes == NULL || a->ghosts == NULL || a->buckets == NULL) goto no_memory;
  *self = a;
  return 0;

no_memory:
  arc_destroy(a);
  return neap__fail(err, NEAP_ENOMEM, "ARC: no memory for %u slots", context->slots);
}

const neap_policy neap__policy_arc = {
    .magic = NEAP_POLICY_MAGIC,
    .abi = NEAP_POLICY_ABI,
    .size = sizeof(neap_policy),
    .wants = NEAP__WANTS_BASIC,
    .name = "ARC",
    .create = arc_create,
    .on_events = arc_on_events,
    .victims = arc_victims,
    .destroy = arc_destroy,
};
