/* SPDX-License-Identifier: MIT
 *
 * policies/heap.c - see heap.h. Children of node n are 4n + 1 .. 4n + 4. */
#include "policies/heap.h"

#include <stdlib.h>

bool neap__heap_open(neap__heap *heap, uint32_t items) {
  heap->entries = malloc(sizeof(*heap->entries) * items);
  heap->at = calloc(items, sizeof(*heap->at));
  if (heap->entries != NULL && heap->at != NULL) return true;
  neap__heap_close(heap);
  return false;
}

void neap__heap_close(neap__heap *heap) {
  free(heap->entries);
  free(heap->at);
  *heap = (neap__heap){0};
}

/* Turns are compared as a circle, so that they may wrap. */
bool neap__heap_before(const neap__heap_entry *a, const neap__heap_entry *b) {
  return a->rank < b->rank || (a->rank == b->rank && (int32_t)(a->turn - b->turn) < 0);
}

static void set(neap__heap *heap, uint32_t n, neap__heap_entry entry) {
  heap->entries[n] = entry;
  heap->at[entry.item] = n + 1;
}

static uint32_t rise(neap__heap *heap, uint32_t n, const neap__heap_entry *entry) {
  while (n > 0 && neap__heap_before(entry, &heap->entries[(n - 1) / 4])) {
    set(heap, n, heap->entries[(n - 1) / 4]);
    n = (n - 1) / 4;
  }
  return n;
}

static uint32_t first_child(const neap__heap *heap, uint32_t n) {
  uint64_t child = 4 * (uint64_t)n + 1;
  uint64_t end = NEAP_MIN(child + 4, heap->count);
  uint64_t best = child;
  for (child++; child < end; child++)
    if (neap__heap_before(&heap->entries[child], &heap->entries[best])) best = child;
  return best < heap->count ? (uint32_t)best : 0;
}

static uint32_t sink(neap__heap *heap, uint32_t n, const neap__heap_entry *entry) {
  for (uint32_t child = first_child(heap, n); child != 0 && neap__heap_before(&heap->entries[child], entry);
       child = first_child(heap, n)) {
    set(heap, n, heap->entries[child]);
    n = child;
  }
  return n;
}

static void settle(neap__heap *heap, uint32_t n, neap__heap_entry entry) {
  uint32_t risen = rise(heap, n, &entry);
  set(heap, risen == n ? sink(heap, n, &entry) : risen, entry);
}

void neap__heap_put(neap__heap *heap, uint32_t item, double rank) {
  uint32_t n = heap->at[item] != 0 ? heap->at[item] - 1 : heap->count++;
  settle(heap, n, (neap__heap_entry){.rank = rank, .turn = heap->turn++, .item = item});
}

void neap__heap_take(neap__heap *heap, uint32_t item) {
  if (heap->at[item] == 0) return;
  uint32_t n = heap->at[item] - 1;
  neap__heap_entry last = heap->entries[--heap->count];
  heap->at[item] = 0;
  if (last.item != item) settle(heap, n, last);
}
