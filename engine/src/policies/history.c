/* SPDX-License-Identifier: MIT
 *
 * policies/history.c - a chained hash table over ghosts that are also in lists. */
#include "policies/history.h"

#include <stdlib.h>

static uint32_t *bucket_of(const neap__history *h, uint32_t h1, uint32_t h2, uint32_t tenant) {
  uint64_t key =
      ((uint64_t)h1 << 32 | h2) + (uint64_t)tenant * 0x9e3779b97f4a7c15u; /* hashes are mixed; ids may not be */
  key = (key ^ key >> 32) * 0xd6e8feb86659fd93u;                          /* the multiplier of Degski's mixer */
  return &h->buckets[(key ^ key >> 32) & h->bucket_mask];
}

bool neap__history_open(neap__history *history, uint32_t room) {
  uint32_t buckets = 1;
  while (buckets < room && buckets < 1u << 31) buckets *= 2;
  *history = (neap__history){.room = room, .bucket_mask = buckets - 1};
  history->ghosts = calloc((size_t)room + 1, sizeof(*history->ghosts));
  history->buckets = calloc(buckets, sizeof(*history->buckets));
  if (history->ghosts != NULL && history->buckets != NULL) return true;
  neap__history_close(history);
  return false;
}

void neap__history_close(neap__history *history) {
  free(history->ghosts);
  free(history->buckets);
  *history = (neap__history){0};
}

uint32_t neap__history_find(const neap__history *history, const neap_event *ev) {
  uint32_t g = *bucket_of(history, ev->h1, ev->h2, ev->tenant);
  for (; g != 0; g = history->ghosts[g].chain) {
    const neap__ghost *gh = &history->ghosts[g];
    if (gh->h1 == ev->h1 && gh->h2 == ev->h2 && gh->tenant == ev->tenant) return g;
  }
  return 0;
}

uint32_t neap__history_add(neap__history *history, const neap_event *ev, uint32_t side) {
  if (history->room == 0) return 0;
  uint32_t g = history->free;
  if (g != 0)
    history->free = history->ghosts[g].chain;
  else
    g = ++history->used;
  NEAP_ASSERT(g <= history->room);
  uint32_t *bucket = bucket_of(history, ev->h1, ev->h2, ev->tenant);
  history->ghosts[g] = (neap__ghost){.h1 = ev->h1, .h2 = ev->h2, .tenant = ev->tenant, .chain = *bucket, .side = side};
  *bucket = g;
  neap__list_append(&history->list[side], history->ghosts, sizeof(neap__ghost), g);
  return g;
}

void neap__history_drop(neap__history *history, uint32_t ghost) {
  neap__ghost *gh = &history->ghosts[ghost];
  uint32_t *at = bucket_of(history, gh->h1, gh->h2, gh->tenant);
  while (*at != ghost) at = &history->ghosts[*at].chain;
  *at = gh->chain;
  neap__list_unlink(&history->list[gh->side], history->ghosts, sizeof(neap__ghost), ghost);
  gh->chain = history->free;
  history->free = ghost;
}

void neap__history_remember(neap__history *history, const neap_event *ev) {
  if (history->room == 0) return;
  if (history->list[0].count == history->room) neap__history_drop(history, history->list[0].oldest);
  neap__history_add(history, ev, 0);
}

bool neap__history_arrive(neap__history *history, const neap_event *ev, uint32_t most) {
  uint32_t ghost = neap__history_find(history, ev);
  if (ghost != 0) neap__history_drop(history, ghost);
  while (history->list[0].count > most) neap__history_drop(history, history->list[0].oldest);
  return ghost != 0;
}
