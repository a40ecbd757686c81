/* SPDX-License-Identifier: MIT
 *
 * policies/ranked.h - what the built-ins are made of that keep a rank for each slot and name the smallest: LFU, GDSF,
 * LeafLRU, Belady. Ranks are computed when a slot is inserted, used or kept; of equal ones the least recently used goes
 * first.
 *
 * With leaves_only a slot that something resident continues is set aside until it is a leaf. A tenant's victims are
 * found by a search through the whole heap. 44 bytes per slot. Internal to policy/; one thread at a time. */
#pragma once
#include "policies/builtin.h"
#include "policies/heap.h"

typedef struct neap__ranked_slot {
  double rank;
  uint32_t tenant, kib;
  uint32_t uses; /* since it was inserted, that included */
  uint16_t pos;
  uint8_t place; /* neap__place */
  uint8_t inner; /* something continues it; it is not in the heap */
} neap__ranked_slot;

typedef struct neap__ranked {
  neap__heap heap;
  neap__ranked_slot *slots;
  const neap_policy_context *context;
  double (*rank)(struct neap__ranked *ranked, uint32_t slot);
  bool leaves_only;
  double floor; /* rank of the last victim */
  double clock; /* events that ranked something */
} neap__ranked;

/* A create that refuses all parameters. */
int neap__ranked_create(const neap_policy *policy, const neap_policy_context *context,
                        double (*rank)(neap__ranked *ranked, uint32_t slot), void **self, neap_error *err);
void neap__ranked_destroy(void *self);
int neap__ranked_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err);
int neap__ranked_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err);

/* A table of one. */
#define NEAP__RANKED(text, make, wanted, limit)                                                                        \
  {                                                                                                                    \
    NEAP__POLICY_HEAD, .wants = NEAP__WANTS_BASIC | (wanted), .constraint = (limit), .name = (text), .create = (make), \
                       .destroy = neap__ranked_destroy, .on_events = neap__ranked_on_events,                           \
                       .victims = neap__ranked_victims                                                                 \
  }
