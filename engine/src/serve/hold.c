/* SPDX-License-Identifier: MIT
 *
 * serve/hold.c - see hold.h. A search starts behind the last one's result, so walking a prompt in order costs one
 * comparison per chunk. */
#include "serve/hold.h"

#include <stdlib.h>
#include <string.h>

int neap__holds_reserve(neap__holds *holds, uint32_t more) {
  if (holds->count + more <= holds->cap) return 0;
  uint32_t cap = NEAP_MAX(2 * holds->cap, holds->count + more);
  neap__held *at = realloc(holds->at, (size_t)cap * sizeof(*at));
  if (!at) return NEAP_ENOMEM;
  holds->at = at;
  holds->cap = cap;
  return 0;
}

void neap__holds_add(neap__holds *holds, const neap__key *key, neap__lease lease, uint32_t readers) {
  NEAP_ASSERT(holds->count < holds->cap && readers > 0);
  holds->at[holds->count++] = (neap__held){.key = *key, .lease = lease, .readers = readers};
  holds->live++;
}

neap__held *neap__holds_find(neap__holds *holds, const neap__key *key) {
  if (holds->live == 0) return NULL;
  uint32_t i = holds->cursor < holds->count ? holds->cursor : 0;
  for (uint32_t tried = 0; tried < holds->count; tried++) {
    neap__held *held = &holds->at[i];
    i = i + 1 < holds->count ? i + 1 : 0;
    if (held->lease == NEAP_NO_LEASE || memcmp(&held->key, key, sizeof(*key)) != 0) continue;
    holds->cursor = i;
    return held;
  }
  return NULL;
}

/* One entry has no lease any more; an empty list starts over. */
static void forget(neap__holds *holds, neap__held *held) {
  held->lease = NEAP_NO_LEASE;
  if (--holds->live > 0) return;
  holds->count = 0;
  holds->cursor = 0;
}

void neap__holds_give(neap__holds *holds, neap__held *held, neap__l1 *l1, uint32_t readers) {
  /* A lease that L1 ended by itself (its owner was dropped) is stale; there is nothing left to give back then. */
  (void)neap__l1_release(l1, held->lease, NEAP_MIN(readers, held->readers));
  if (readers >= held->readers) {
    forget(holds, held);
    return;
  }
  if (held->readers != NEAP_READERS_ALL) held->readers -= readers;
}

void neap__holds_move(neap__holds *holds, neap__held *held, neap__holds *to) {
  neap__holds_add(to, &held->key, held->lease, 1);
  if (held->readers == NEAP_READERS_ALL) return;
  if (--held->readers == 0) forget(holds, held);
}

void neap__holds_give_all(neap__holds *holds, neap__l1 *l1) {
  for (uint32_t i = holds->count; i-- > 0 && holds->live > 0;)
    if (holds->at[i].lease != NEAP_NO_LEASE) neap__holds_give(holds, &holds->at[i], l1, NEAP_READERS_ALL);
}

void neap__holds_give_space(neap__holds *holds, neap__l1 *l1, uint32_t space) {
  for (uint32_t i = holds->count; i-- > 0 && holds->live > 0;) {
    neap__held *held = &holds->at[i];
    if (held->lease != NEAP_NO_LEASE && held->key.space == space) neap__holds_give(holds, held, l1, NEAP_READERS_ALL);
  }
}
