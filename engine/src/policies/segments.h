/* SPDX-License-Identifier: MIT
 *
 * policies/segments.h - a segmented LRU inside some of the queues of a policy (Karedla, Love and Wherry, "Caching
 * Strategies to Improve Disk System Performance", IEEE Computer 1994): use moves a seat one segment up; a segment that
 * is over its limit gives its oldest back to the one below. SLRU is nothing else, W-TinyLFU's main part is one. */
#pragma once
#include "policies/queues.h"

typedef struct neap__segments {
  neap__queues *q;
  uint32_t first, count; /* queues first .. first + count - 1, lowest first */
  uint32_t limit[NEAP__QUEUES];
} neap__segments;

/* The lowest segment with room takes a new one, else the lowest. */
static inline uint32_t neap__segment_for_new(const neap__segments *s) {
  for (uint32_t n = 0; n < s->count; n++)
    if (s->q->list[s->first + n].count < s->limit[n]) return s->first + n;
  return s->first;
}

static inline void neap__segments_use(neap__segments *s, uint32_t i) {
  uint32_t n = s->q->seats[i].queue - s->first;
  if (n + 1 < s->count) n++;
  neap__seat_append(s->q, i, s->first + n);
  for (; n > 0 && s->q->list[s->first + n].count > s->limit[n]; n--)
    neap__seat_append(s->q, s->q->list[s->first + n].oldest, s->first + n - 1);
}

static inline uint32_t neap__segments_oldest(neap__segments *s) {
  uint32_t i = 0;
  for (uint32_t n = 0; n < s->count && i == 0; n++) i = neap__queue_oldest(s->q, s->first + n);
  return i;
}
