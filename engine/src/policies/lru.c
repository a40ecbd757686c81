/* SPDX-License-Identifier: MIT
 *
 * policies/lru.c - least recently used, by the order of events. Events of one request come tail first, so the head of a
 * prompt ends more recent than its tail and leaves go before the prefixes they hang on.
 *
 * One queue, 16 bytes per slot, constant time per event and per victim. A tenant's victims are found by a walk from
 * the old end, which may pass everybody else's: an engine with many tenants under quota wants IsolatedLRU. */
#include "policies/queues.h"

static int lru_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  neap__queues *q = self;
  for (const neap_event *ev = events; ev < events + count; ev++) {
    uint32_t i = ev->slot + 1;
    switch (ev->type) {
      case NEAP_EV_INSERT: neap__seat_enter(q, ev, 0); break;
      case NEAP_EV_HIT: /* a proposed slot stays out: the KEEP that follows puts it at the new end */
        if (q->seats[i].place == NEAP__LISTED) neap__seat_append(q, i, 0);
        break;
      case NEAP_EV_REMOVE: neap__seat_leave(q, i); break;
      case NEAP_EV_KEEP: /* out of the way, or a pinned victim would be proposed for ever */
        if (q->seats[i].place != NEAP__ABSENT) neap__seat_append(q, i, 0);
        break;
      default: break;
    }
  }
  return 0;
}

static uint32_t lru_pick(void *self) { return neap__queue_oldest(self, 0); }

static int lru_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  return neap__queues_answer(self, lru_pick, scope, out, max);
}

const neap_policy neap__policy_lru = {
    NEAP__POLICY_HEAD,
    .wants = NEAP__WANTS_BASIC,
    .name = "LRU",
    .create = neap__queues_create,
    .destroy = neap__queues_destroy,
    .on_events = lru_on_events,
    .victims = lru_victims,
};
