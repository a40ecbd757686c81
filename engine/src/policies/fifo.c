/* SPDX-License-Identifier: MIT
 *
 * policies/fifo.c - first in, first out: use changes nothing. The baseline against which second chances are measured.
 *
 * A victim that could not go is put at the new end, as if it had just come. 16 bytes per slot. */
#include "policies/queues.h"

static int fifo_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  neap__queues *q = self;
  for (const neap_event *ev = events; ev < events + count; ev++) {
    uint32_t i = ev->slot + 1;
    switch (ev->type) {
      case NEAP_EV_INSERT: neap__seat_enter(q, ev, 0); break;
      case NEAP_EV_REMOVE: neap__seat_leave(q, i); break;
      case NEAP_EV_KEEP:
        if (q->seats[i].place != NEAP__ABSENT) neap__seat_append(q, i, 0);
        break;
      default: break;
    }
  }
  return 0;
}

static uint32_t fifo_pick(void *self) { return neap__queue_oldest(self, 0); }

static int fifo_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  return neap__queues_answer(self, fifo_pick, scope, out, max);
}

const neap_policy neap__policy_fifo = {
    NEAP__POLICY_HEAD,
    .wants = NEAP_WANTS(INSERT) | NEAP_WANTS(REMOVE) | NEAP_WANTS(KEEP),
    .name = "FIFO",
    .create = neap__queues_create,
    .destroy = neap__queues_destroy,
    .on_events = fifo_on_events,
    .victims = fifo_victims,
};
