/* SPDX-License-Identifier: MIT
 *
 * l1/arena.c - see arena.h. Extents are nodes in one array, doubly linked in address order; free ones are also in the
 * list of their size class. Node numbers are recycled through a stack threaded through `next_free`. */
#include "l1/arena.h"

#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX
#define FINE_BITS 4u /* 16 classes per power of two: a fit wastes no search and at most 1/16 of a class */
#define FINE (1u << FINE_BITS)
#define COARSE 33u

typedef struct extent {
  uint32_t first, units;
  uint32_t prev, next;           /* by address */
  uint32_t prev_free, next_free; /* by class; next_free also chains unused nodes */
  uint32_t slot;                 /* NONE: free */
} extent;

struct neap__arena {
  extent *extents;
  uint32_t extents_max, extents_fresh, unused_head;
  uint32_t *slot_extent; /* slot -> its extent */
  uint32_t *free_slots;  /* stack */
  uint32_t free_slot_count, slots, slots_high;
  uint32_t units, head, tail;
  uint64_t used;
  uint32_t classes[COARSE][FINE];
  uint64_t coarse_map;
  uint32_t fine_map[COARSE];
};

static uint32_t log2_floor(uint32_t v) { return 31u - (uint32_t)__builtin_clz(v); }

/* The class that holds extents of `units`. */
static void class_of(uint32_t units, uint32_t *coarse, uint32_t *fine) {
  if (units < FINE) {
    *coarse = 0;
    *fine = units;
    return;
  }
  uint32_t top = log2_floor(units);
  *coarse = top - FINE_BITS + 1;
  *fine = (units >> (top - FINE_BITS)) & (FINE - 1);
}

static void list_push(neap__arena *a, uint32_t e) {
  uint32_t c, f;
  class_of(a->extents[e].units, &c, &f);
  uint32_t head = a->classes[c][f];
  a->extents[e].prev_free = NONE;
  a->extents[e].next_free = head;
  if (head != NONE) a->extents[head].prev_free = e;
  a->classes[c][f] = e;
  a->coarse_map |= 1ull << c;
  a->fine_map[c] |= 1u << f;
}

static void list_remove(neap__arena *a, uint32_t e) {
  uint32_t c, f;
  class_of(a->extents[e].units, &c, &f);
  uint32_t prev = a->extents[e].prev_free, next = a->extents[e].next_free;
  if (prev != NONE) a->extents[prev].next_free = next;
  if (next != NONE) a->extents[next].prev_free = prev;
  if (prev != NONE) return;
  a->classes[c][f] = next;
  if (next != NONE) return;
  a->fine_map[c] &= ~(1u << f);
  if (!a->fine_map[c]) a->coarse_map &= ~(1ull << c);
}

static uint32_t extent_new(neap__arena *a) {
  uint32_t e = a->unused_head;
  if (e != NONE) {
    a->unused_head = a->extents[e].next_free;
    return e;
  }
  NEAP_ASSERT(a->extents_fresh < a->extents_max); /* two per slot and one: gaps cannot outnumber the used by more */
  return a->extents_fresh++;
}

static void extent_drop(neap__arena *a, uint32_t e) {
  a->extents[e].next_free = a->unused_head;
  a->extents[e].units = 0;
  a->unused_head = e;
}

static void link_after(neap__arena *a, uint32_t prev, uint32_t e) {
  uint32_t next = prev == NONE ? a->head : a->extents[prev].next;
  a->extents[e].prev = prev;
  a->extents[e].next = next;
  *(prev == NONE ? &a->head : &a->extents[prev].next) = e;
  *(next == NONE ? &a->tail : &a->extents[next].prev) = e;
}

static void unlink_extent(neap__arena *a, uint32_t e) {
  uint32_t prev = a->extents[e].prev, next = a->extents[e].next;
  *(prev == NONE ? &a->head : &a->extents[prev].next) = next;
  *(next == NONE ? &a->tail : &a->extents[next].prev) = prev;
}

static void add_free(neap__arena *a, uint32_t prev, uint32_t first, uint32_t units) {
  uint32_t e = extent_new(a);
  a->extents[e].first = first;
  a->extents[e].units = units;
  a->extents[e].slot = NONE;
  link_after(a, prev, e);
  list_push(a, e);
}

int neap__arena_open(uint32_t units, uint32_t slots, neap__arena **out) {
  neap__arena *a = calloc(1, sizeof *a);
  if (!a) return NEAP_ENOMEM;
  a->units = units;
  a->slots = slots;
  a->extents_max = 2 * slots + 2;
  /* calloc of large areas touches nothing until used, so bookkeeping grows with the objects. */
  a->extents = calloc(a->extents_max, sizeof *a->extents);
  a->slot_extent = calloc(slots, sizeof *a->slot_extent);
  a->free_slots = calloc(slots, sizeof *a->free_slots);
  if (!a->extents || !a->slot_extent || !a->free_slots) {
    neap__arena_close(a);
    return NEAP_ENOMEM;
  }
  memset(a->classes, 0xff, sizeof a->classes);
  a->unused_head = a->head = a->tail = NONE;
  *out = a;
  return 0;
}

void neap__arena_close(neap__arena *a) {
  if (!a) return;
  free(a->extents);
  free(a->slot_extent);
  free(a->free_slots);
  free(a);
}

int neap__arena_claim(neap__arena *a, uint32_t slot, uint32_t first, uint32_t units) {
  uint32_t end = a->tail == NONE ? 0 : a->extents[a->tail].first + a->extents[a->tail].units;
  if (first < end || units == 0 || first > a->units || units > a->units - first) return NEAP_ECORRUPT;
  if (first > end) add_free(a, a->tail, end, first - end);
  uint32_t e = extent_new(a);
  a->extents[e].first = first;
  a->extents[e].units = units;
  a->extents[e].slot = slot;
  link_after(a, a->tail, e);
  a->slot_extent[slot] = e + 1;
  a->used += units;
  a->slots_high = NEAP_MAX(a->slots_high, slot + 1);
  return 0;
}

void neap__arena_rebuilt(neap__arena *a) {
  uint32_t end = a->tail == NONE ? 0 : a->extents[a->tail].first + a->extents[a->tail].units;
  if (end < a->units) add_free(a, a->tail, end, a->units - end);
  for (uint32_t slot = a->slots_high; slot-- > 0;)
    if (!a->slot_extent[slot]) a->free_slots[a->free_slot_count++] = slot;
}

/* A free extent of at least `units`: the nearest class whose every member fits, else the first that fits in the own. */
static uint32_t find_fit(const neap__arena *a, uint32_t units) {
  uint32_t c, f;
  class_of(units, &c, &f);
  for (uint32_t e = a->classes[c][f]; e != NONE; e = a->extents[e].next_free)
    if (a->extents[e].units >= units) return e;
  uint32_t fine = f + 1 < FINE ? a->fine_map[c] & ~((1u << (f + 1)) - 1) : 0;
  if (!fine) {
    uint64_t coarse = a->coarse_map & ~((2ull << c) - 1);
    if (!coarse) return NONE;
    c = (uint32_t)__builtin_ctzll(coarse);
    fine = a->fine_map[c];
  }
  return a->classes[c][__builtin_ctz(fine)];
}

int neap__arena_take(neap__arena *a, uint32_t units, uint32_t *slot, uint32_t *first_unit) {
  if (!a->free_slot_count && a->slots_high == a->slots) return NEAP_ELIMIT;
  uint32_t e = find_fit(a, units);
  if (e == NONE) return NEAP_ENOSPC;
  list_remove(a, e);
  uint32_t rest = a->extents[e].units - units;
  a->extents[e].units = units;
  if (rest) add_free(a, e, a->extents[e].first + units, rest);
  uint32_t s = a->free_slot_count ? a->free_slots[--a->free_slot_count] : a->slots_high++;
  a->extents[e].slot = s;
  a->slot_extent[s] = e + 1;
  a->used += units;
  *slot = s;
  *first_unit = a->extents[e].first;
  return 0;
}

void neap__arena_give(neap__arena *a, uint32_t slot) {
  NEAP_ASSERT(slot < a->slots && a->slot_extent[slot]);
  uint32_t e = a->slot_extent[slot] - 1;
  a->slot_extent[slot] = 0;
  a->free_slots[a->free_slot_count++] = slot;
  a->used -= a->extents[e].units;
  a->extents[e].slot = NONE;
  uint32_t prev = a->extents[e].prev, next = a->extents[e].next;
  if (next != NONE && a->extents[next].slot == NONE) {
    list_remove(a, next);
    a->extents[e].units += a->extents[next].units;
    unlink_extent(a, next);
    extent_drop(a, next);
  }
  if (prev != NONE && a->extents[prev].slot == NONE) {
    list_remove(a, prev);
    a->extents[prev].units += a->extents[e].units;
    unlink_extent(a, e);
    extent_drop(a, e);
    e = prev;
  }
  list_push(a, e);
}

uint64_t neap__arena_used_units(const neap__arena *a) { return a->used; }
uint32_t neap__arena_slots_high(const neap__arena *a) { return a->slots_high; }

uint32_t neap__arena_largest_free(const neap__arena *a) {
  if (!a->coarse_map) return 0;
  uint32_t c = 63u - (uint32_t)__builtin_clzll(a->coarse_map), largest = 0;
  for (uint32_t e = a->classes[c][log2_floor(a->fine_map[c])]; e != NONE; e = a->extents[e].next_free)
    largest = NEAP_MAX(largest, a->extents[e].units);
  return largest;
}

uint32_t neap__arena_window(const neap__arena *a, uint32_t units, bool (*movable)(void *ctx, uint32_t slot), void *ctx,
                            uint32_t *slots, uint32_t max) {
  uint64_t length = 0, cost = 0, best_cost = UINT64_MAX;
  uint32_t left = a->head, count = 0, best_left = NONE, best_right = NONE;
  for (uint32_t right = a->head; right != NONE; right = a->extents[right].next) {
    const extent *r = &a->extents[right];
    if (r->slot != NONE && !movable(ctx, r->slot)) {
      left = r->next;
      length = cost = count = 0;
      continue;
    }
    length += r->units;
    if (r->slot != NONE) cost += r->units, count++;
    while (length - a->extents[left].units >= units) {
      const extent *l = &a->extents[left];
      length -= l->units;
      if (l->slot != NONE) cost -= l->units, count--;
      left = l->next;
    }
    if (length >= units && cost < best_cost && count <= max) best_cost = cost, best_left = left, best_right = right;
  }
  uint32_t n = 0;
  for (uint32_t e = best_left; e != NONE; e = a->extents[e].next) {
    if (a->extents[e].slot != NONE) slots[n++] = a->extents[e].slot;
    if (e == best_right) break;
  }
  return n;
}

int neap__arena_check(const neap__arena *a, neap_error *err) {
  uint32_t at = 0, prev = NONE, free_count = 0, listed = 0;
  uint64_t used = 0;
  for (uint32_t e = a->head; e != NONE; prev = e, e = a->extents[e].next) {
    const extent *x = &a->extents[e];
    if (x->first != at || x->units == 0 || x->prev != prev)
      return neap__fail(err, NEAP_ECORRUPT, "arena: extent at unit %u does not continue at %u", x->first, at);
    at += x->units;
    if (x->slot == NONE) {
      free_count++;
      if (prev != NONE && a->extents[prev].slot == NONE)
        return neap__fail(err, NEAP_ECORRUPT, "arena: two free extents touch at unit %u", x->first);
    } else {
      used += x->units;
      if (a->slot_extent[x->slot] != e + 1)
        return neap__fail(err, NEAP_ECORRUPT, "arena: slot %u does not know its extent", x->slot);
    }
  }
  for (uint32_t c = 0; c < COARSE; c++)
    for (uint32_t f = 0; f < FINE; f++)
      for (uint32_t e = a->classes[c][f]; e != NONE; e = a->extents[e].next_free) listed++;
  if (at != a->units || used != a->used || listed != free_count)
    return neap__fail(err, NEAP_ECORRUPT,
                      "arena: %u of %u units tiled, %llu counted as used, %llu found, %u free listed, %u found", at,
                      a->units, (unsigned long long)a->used, (unsigned long long)used, listed, free_count);
  return 0;
}
