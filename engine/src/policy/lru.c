/* SPDX-License-Identifier: MIT
 *
 * policy/lru.c - least recently used, by the order of events. Events of one request come tail first, so the head of a
 * prompt ends more recent than its tail and leaves go before the prefixes they hang on.
 *
 * One list, 16 bytes per slot, constant time per event and per victim. A tenant's victims are found by a walk from
 * the old end, which may pass everybody else's: an engine with many tenants under quota wants IsolatedLRU. Entered
 * from one thread at a time (the stream's lock). */
#include <stdlib.h>

#include "base/base.h"
#include "policy/builtin.h"

typedef struct lru_node {
  neap__link link;
  uint32_t tenant;
  uint32_t place; /* neap__place */
} lru_node;

_Static_assert(sizeof(lru_node) == 16, "LRU promises 16 bytes per slot");

typedef struct lru {
  neap__list list;
  lru_node nodes[]; /* slots + 1, see builtin.h */
} lru;

static int lru_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  (void)policy;
  lru *l = calloc(1, sizeof(*l) + ((size_t)context->slots + 1) * sizeof(lru_node));
  if (l == NULL) return neap__fail(err, NEAP_ENOMEM, "LRU: no memory for %u slots", context->slots);
  *self = l;
  return 0;
}

static void lru_destroy(void *self) { free(self); }

static void lru_take(lru *l, uint32_t i, neap__place place) {
  if (l->nodes[i].place == NEAP__LISTED) neap__list_unlink(&l->list, l->nodes, sizeof(lru_node), i);
  l->nodes[i].place = place;
}

static void lru_put_newest(lru *l, uint32_t i) {
  lru_take(l, i, NEAP__LISTED);
  neap__list_append(&l->list, l->nodes, sizeof(lru_node), i);
}

static void lru_event(lru *l, const neap_event *ev) {
  uint32_t i = ev->slot + 1;
  lru_node *node = &l->nodes[i];
  switch (ev->type) {
    case NEAP_EV_INSERT:
      node->tenant = ev->tenant;
      lru_put_newest(l, i);
      break;
    case NEAP_EV_HIT: /* a proposed slot stays out: the KEEP that follows puts it at the new end */
      if (node->place == NEAP__LISTED) lru_put_newest(l, i);
      break;
    case NEAP_EV_REMOVE: lru_take(l, i, NEAP__ABSENT); break;
    case NEAP_EV_KEEP: /* out of the way, or a pinned victim would be proposed for ever */
      if (node->place != NEAP__ABSENT) lru_put_newest(l, i);
      break;
    default: break;
  }
}

static int lru_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  for (uint32_t n = 0; n < count; n++) lru_event(self, &events[n]);
  return 0;
}

static int lru_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  lru *l = self;
  uint32_t got = 0;
  uint32_t next = 0;
  for (uint32_t i = l->list.oldest; i != 0 && got < max; i = next) {
    next = l->nodes[i].link.next;
    if (scope != NEAP_SCOPE_ALL && l->nodes[i].tenant != scope) continue;
    lru_take(l, i, NEAP__PROPOSED);
    out[got++] = i - 1;
  }
  return (int)got;
}

const neap_policy neap__policy_lru = {
    .magic = NEAP_POLICY_MAGIC,
    .abi = NEAP_POLICY_ABI,
    .size = sizeof(neap_policy),
    .wants = NEAP__WANTS_BASIC,
    .name = "LRU",
    .create = lru_create,
    .on_events = lru_on_events,
    .victims = lru_victims,
    .destroy = lru_destroy,
};
