/* SPDX-License-Identifier: MIT
 *
 * policy/tree.c - see tree.h. Chunks are numbers into one growing array, found through a hash table of chains. One that
 * is in no slot and that no known chunk continues is idle: idle ones make room for new ones, oldest first. */
#include "policy/tree.h"

#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX
#define ROOM_LEAST 1024u
#define ABSENT_LEAST 16384u /* chunks that are known though not resident, beside three for each that is */

typedef struct chunk {
  uint64_t hash;
  uint32_t tenant;
  uint32_t parent;       /* NONE: the first of a prompt, or not known */
  uint32_t known, kids;  /* chunks that continue it; those of them that are resident */
  uint32_t slot;         /* first of its family, NONE: not resident */
  uint32_t next;         /* in its bucket, or among the unused */
  uint32_t older, newer; /* while it is idle */
} chunk;

struct neap__tree {
  neap_chunk *rows;
  neap__tree_told told;
  void *ctx;
  uint32_t slots;
  uint32_t *chunk_of, *sibling; /* [slots]; sibling: the next slot of the family */
  chunk *chunk;
  uint32_t room, used, count, families; /* used: ever; count: known now */
  uint32_t unused;                      /* a list through next */
  uint32_t *bucket, bucket_mask;        /* number of the first, NONE: empty */
  uint32_t oldest, newest;              /* idle ones */
  uint32_t at;                          /* the chunk that the next one of a prompt continues */
};

/* --- finding, making, forgetting ------------------------------------------------------------------------------ */

static uint32_t *bucket_of(neap__tree *t, uint64_t hash, uint32_t tenant) {
  uint64_t mixed = (hash ^ tenant * UINT64_C(0xff51afd7ed558ccd)) * UINT64_C(0x9e3779b97f4a7c15);
  return &t->bucket[(uint32_t)(mixed >> 32) & t->bucket_mask];
}

static uint32_t find(neap__tree *t, uint64_t hash, uint32_t tenant) {
  uint32_t at = *bucket_of(t, hash, tenant);
  while (at != NONE && (t->chunk[at].hash != hash || t->chunk[at].tenant != tenant)) at = t->chunk[at].next;
  return at;
}

static void list(neap__tree *t, uint32_t number) {
  uint32_t *bucket = bucket_of(t, t->chunk[number].hash, t->chunk[number].tenant);
  t->chunk[number].next = *bucket;
  *bucket = number;
}

static bool grow(neap__tree *t, uint32_t room) {
  chunk *chunks = realloc(t->chunk, (size_t)room * sizeof(*chunks));
  if (chunks != NULL) t->chunk = chunks;
  uint32_t *buckets = chunks != NULL ? malloc((size_t)room * sizeof(*buckets)) : NULL;
  if (buckets == NULL) return false;
  memset(buckets, 0xff, (size_t)room * sizeof(*buckets));
  free(t->bucket);
  t->bucket = buckets;
  t->bucket_mask = room - 1;
  t->room = room;
  for (uint32_t i = 0; i < t->used; i++) list(t, i); /* grows when all are in use */
  return true;
}

static bool is_idle(const chunk *c) { return c->slot == NONE && c->known == 0; }

static void idle_end(neap__tree *t, uint32_t number) {
  chunk *c = &t->chunk[number];
  *(c->older != NONE ? &t->chunk[c->older].newer : &t->oldest) = c->newer;
  *(c->newer != NONE ? &t->chunk[c->newer].older : &t->newest) = c->older;
}

/* last: it goes after all the others; else it is the next to go. */
static void idle_begin(neap__tree *t, uint32_t number, bool last) {
  chunk *c = &t->chunk[number];
  c->older = last ? t->newest : NONE;
  c->newer = last ? NONE : t->oldest;
  *(c->older != NONE ? &t->chunk[c->older].newer : &t->oldest) = number;
  *(c->newer != NONE ? &t->chunk[c->newer].older : &t->newest) = number;
}

/* Forgets the chunk that has been idle longest, if there is any. What it continued is next. */
static bool forget_one(neap__tree *t) {
  uint32_t number = t->oldest;
  if (number == NONE) return false;
  chunk *c = &t->chunk[number];
  idle_end(t, number);
  uint32_t *at = bucket_of(t, c->hash, c->tenant);
  while (*at != number) at = &t->chunk[*at].next;
  *at = c->next;
  c->next = t->unused;
  t->unused = number;
  t->count--;
  if (c->parent == NONE) return true;
  chunk *parent = &t->chunk[c->parent];
  parent->known--;
  if (is_idle(parent)) idle_begin(t, c->parent, false);
  return true;
}

/* A number for a new chunk, NONE without memory. */
static uint32_t take_number(neap__tree *t) {
  uint32_t number = t->unused;
  if (number != NONE) {
    t->unused = t->chunk[number].next;
    return number;
  }
  if (t->used == t->room && (t->room > UINT32_MAX / 4 || !grow(t, t->room * 2))) return NONE;
  return t->used++;
}

/* A chunk that is not known yet; idle so far. */
static uint32_t add(neap__tree *t, uint64_t hash, uint32_t tenant) {
  uint32_t number = take_number(t);
  if (number == NONE) return NONE;
  t->chunk[number] = (chunk){.hash = hash, .tenant = tenant, .parent = NONE, .slot = NONE};
  list(t, number);
  idle_begin(t, number, true);
  t->count++;
  return number;
}

/* --- leaves --------------------------------------------------------------------------------------------------- */

/* The number of a resident chunk's children has changed to or from `edge`: to 1 it is no leaf any more. */
static void changed(neap__tree *t, uint32_t number, uint32_t edge, neap_event_type change) {
  const chunk *c = &t->chunk[number];
  for (uint32_t slot = c->slot; slot != NONE; slot = t->sibling[slot]) {
    t->rows[slot].children = (uint16_t)NEAP_MIN(c->kids, UINT16_MAX);
    if (c->kids == edge) t->told(t->ctx, change, slot, c->hash, c->tenant);
  }
}

static void gain(neap__tree *t, uint32_t number) {
  t->chunk[number].kids++;
  changed(t, number, 1, NEAP_EV_UNLEAF);
}

static void lose(neap__tree *t, uint32_t number) {
  t->chunk[number].kids--;
  changed(t, number, 0, NEAP_EV_LEAF);
}

void neap__tree_insert(neap__tree *t, uint32_t slot, uint64_t hash, uint32_t tenant) {
  neap__tree_remove(t, slot);
  t->at = NONE;
  uint32_t number = find(t, hash, tenant);
  if (number == NONE) number = add(t, hash, tenant);
  if (number == NONE) return;
  chunk *c = &t->chunk[number];
  bool first = c->slot == NONE;
  if (is_idle(c)) idle_end(t, number);
  t->chunk_of[slot] = number;
  t->sibling[slot] = c->slot;
  c->slot = slot;
  t->rows[slot].children = (uint16_t)NEAP_MIN(c->kids, UINT16_MAX);
  if (c->kids != 0) t->told(t->ctx, NEAP_EV_UNLEAF, slot, hash, tenant);
  if (!first) return;
  t->families++;
  if (c->parent != NONE) gain(t, c->parent);
}

void neap__tree_remove(neap__tree *t, uint32_t slot) {
  uint32_t number = t->chunk_of[slot];
  if (number == NONE) return;
  chunk *c = &t->chunk[number];
  uint32_t *at = &c->slot;
  while (*at != slot) at = &t->sibling[*at];
  *at = t->sibling[slot];
  t->chunk_of[slot] = NONE;
  t->rows[slot].children = 0;
  if (c->slot != NONE) return;
  t->families--;
  if (is_idle(c)) idle_begin(t, number, true);
  if (c->parent != NONE) lose(t, c->parent);
}

/* --- who continues whom --------------------------------------------------------------------------------------- */

/* Parent never changes: a hash covers all that comes before. */
static void join(neap__tree *t, uint32_t number, uint32_t parent) {
  if (t->chunk[number].parent != NONE || number == parent) return;
  if (is_idle(&t->chunk[parent])) idle_end(t, parent);
  t->chunk[parent].known++;
  t->chunk[number].parent = parent;
  if (t->chunk[number].slot != NONE) gain(t, parent);
}

/* The chunk, made known if it was not. Before a new one, old ones go until the bound is kept; `keep` does not. */
static uint32_t meet(neap__tree *t, uint64_t hash, uint32_t tenant, uint32_t keep) {
  uint32_t number = find(t, hash, tenant), most = NEAP_MIN(t->families, UINT32_MAX / 8) * 4 + ABSENT_LEAST;
  if (number != NONE) {
    if (!is_idle(&t->chunk[number])) return number;
    idle_end(t, number);
    idle_begin(t, number, true);
    return number;
  }
  if (keep != NONE) t->chunk[keep].known++; /* not idle, whatever happens */
  if (keep != NONE && t->chunk[keep].slot == NONE && t->chunk[keep].known == 1) idle_end(t, keep);
  while (t->count >= most && forget_one(t)) continue;
  if (t->count < most) number = add(t, hash, tenant);
  if (keep != NONE) t->chunk[keep].known--;
  if (keep != NONE && is_idle(&t->chunk[keep])) idle_begin(t, keep, true);
  return number;
}

void neap__tree_learn(neap__tree *t, uint64_t hash, uint32_t tenant, neap__tree_step step) {
  if (step == NEAP__TREE_NEXT && t->at == NONE) return; /* the one before was not made known */
  uint32_t parent = step == NEAP__TREE_NEXT ? t->at : NONE;
  uint32_t number = meet(t, hash, tenant, parent);
  if (number != NONE && parent != NONE) join(t, number, parent);
  t->at = number;
}

/* --- life ----------------------------------------------------------------------------------------------------- */

int neap__tree_open(uint32_t slots, neap_chunk *rows, neap__tree_told told, void *ctx, neap__tree **out) {
  neap__tree *t = calloc(1, sizeof(*t));
  if (t == NULL) return NEAP_ENOMEM;
  *t = (neap__tree){.rows = rows, .told = told, .ctx = ctx, .slots = slots};
  t->unused = t->oldest = t->newest = t->at = NONE;
  t->chunk_of = malloc(sizeof(*t->chunk_of) * slots);
  t->sibling = malloc(sizeof(*t->sibling) * slots);
  if (t->chunk_of == NULL || t->sibling == NULL || !grow(t, ROOM_LEAST)) {
    free(t->chunk_of);
    free(t->sibling);
    free(t->chunk);
    free(t);
    return NEAP_ENOMEM;
  }
  memset(t->chunk_of, 0xff, sizeof(*t->chunk_of) * slots);
  *out = t;
  return 0;
}

void neap__tree_close(neap__tree *t) {
  if (t == NULL) return;
  for (uint32_t slot = 0; slot < t->slots; slot++)
    if (t->chunk_of[slot] != NONE) t->rows[slot].children = 0;
  free(t->chunk_of);
  free(t->sibling);
  free(t->chunk);
  free(t->bucket);
  free(t);
}

void neap__tree_stats_get(const neap__tree *t, neap__tree_stats *out) {
  *out = (neap__tree_stats){.families = t->families, .chunks = t->count};
}
