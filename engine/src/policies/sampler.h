/* SPDX-License-Identifier: MIT
 *
 * policies/sampler.h - the slots of a set, side by side, so that one can be drawn at random. 8 bytes per slot. Internal
 * to policy/; one thread at a time. */
#pragma once
#include <stdlib.h>

#include "base/base.h"

typedef struct neap__sampler {
  uint32_t *slots; /* [count], in no order */
  uint32_t *at;    /* by slot: where it is + 1, 0: not in the set */
  uint32_t count;
} neap__sampler;

static inline void neap__sampler_close(neap__sampler *s) {
  free(s->slots);
  free(s->at);
}

static inline bool neap__sampler_open(neap__sampler *s, uint32_t slots) {
  *s = (neap__sampler){.slots = malloc(sizeof(*s->slots) * slots), .at = calloc(slots, sizeof(*s->at))};
  if (s->slots != NULL && s->at != NULL) return true;
  neap__sampler_close(s);
  return false;
}

static inline void neap__sampler_add(neap__sampler *s, uint32_t slot) {
  if (s->at[slot] != 0) return;
  s->slots[s->count++] = slot;
  s->at[slot] = s->count;
}

static inline void neap__sampler_remove(neap__sampler *s, uint32_t slot) {
  if (s->at[slot] == 0) return;
  uint32_t last = s->slots[--s->count];
  s->slots[s->at[slot] - 1] = last;
  s->at[last] = s->at[slot];
  s->at[slot] = 0;
}
