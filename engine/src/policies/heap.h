/* SPDX-License-Identifier: MIT
 *
 * policies/heap.h - items by rank, the smallest first: an indexed heap with four children to a node (Johnson, "Priority
 * Queues with Update and Finding Minimum Spanning Trees", Information Processing Letters 1975), so that an item's rank
 * can change. Of equal ranks the one ranked first comes first. 20 bytes per item. One thread at a time. */
#pragma once
#include "base/base.h"

typedef struct neap__heap_entry {
  double rank;
  uint32_t turn; /* when it was ranked */
  uint32_t item;
} neap__heap_entry;

typedef struct neap__heap {
  neap__heap_entry *entries; /* [items] */
  uint32_t *at;              /* [items] where its entry is + 1, 0: it is not in the heap */
  uint32_t count, turn;
} neap__heap;

bool neap__heap_open(neap__heap *heap, uint32_t items);
void neap__heap_close(neap__heap *heap);

/* Puts an item in, or ranks it anew. rank is not NaN. */
void neap__heap_put(neap__heap *heap, uint32_t item, double rank);
/* Takes an item out, if it is in. */
void neap__heap_take(neap__heap *heap, uint32_t item);

/* entries[0] is the first of all if count is not 0. */
bool neap__heap_before(const neap__heap_entry *a, const neap__heap_entry *b);
