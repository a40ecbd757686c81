/* SPDX-License-Identifier: MIT
 *
 * policies/two_q.c - 2Q, the full version (Johnson and Shasha, "2Q: A Low Overhead High Performance Buffer Management
 * Replacement Algorithm", VLDB 1994): what is new waits in a queue, A1in, in which use changes nothing; evicted from
 * it, its name is remembered in A1out; a name that comes back enters Am, which is an LRU.
 *
 * Parameters, shares of the capacity: in (0.25) and out (0.5: names remembered), as in the paper and in libCacheSim.
 * A victim that could not go is put at the new end of its queue. 16 bytes per slot, 36 per name at most. */
#include "policies/history.h"
#include "policies/params.h"
#include "policies/queues.h"

enum { A1IN = 0, AM = 1 };

typedef struct two_q {
  neap__queues q;
  neap__history a1out;
  double in, out;
} two_q;

static void two_q_destroy(void *self) {
  two_q *t = self;
  neap__history_close(&t->a1out);
  neap__queues_destroy(t);
}

static int two_q_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  two_q *t = *self = neap__queues_new(policy, context, sizeof(*t), err);
  if (t == NULL) return NEAP_ENOMEM;
  t->in = 0.25, t->out = 0.5;
  const neap__policy_param known[] = {{"in", &t->in, 0, 1}, {"out", &t->out, 0, 8}};
  int rc = neap__policy_params(policy->name, context->params, known, NEAP_ARRAY_LEN(known), err);
  if (rc == 0 && !neap__history_open(&t->a1out, neap__history_room(neap__share(t->out, context->slots))))
    rc = neap__fail(err, NEAP_ENOMEM, "policy 2Q: no memory for its history");
  if (rc != 0) two_q_destroy(t);
  return rc;
}

static void two_q_insert(two_q *t, const neap_event *ev) {
  bool known = neap__history_arrive(&t->a1out, ev, neap__share(t->out, t->q.context->capacity));
  neap__seat_enter(&t->q, ev, known ? AM : A1IN);
}

static void two_q_remove(two_q *t, const neap_event *ev) {
  uint32_t i = ev->slot + 1;
  bool remember = ev->detail == NEAP_REMOVE_EVICT && t->q.seats[i].queue == A1IN;
  if (neap__seat_leave(&t->q, i) && remember) neap__history_remember(&t->a1out, ev);
}

static int two_q_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  two_q *t = self;
  for (const neap_event *ev = events; ev < events + count; ev++) {
    uint32_t i = ev->slot + 1;
    const neap__seat *seat = &t->q.seats[i];
    switch (ev->type) {
      case NEAP_EV_INSERT: two_q_insert(t, ev); break;
      case NEAP_EV_HIT:
        if (seat->place == NEAP__LISTED && seat->queue == AM) neap__seat_append(&t->q, i, AM);
        break;
      case NEAP_EV_REMOVE: two_q_remove(t, ev); break;
      case NEAP_EV_KEEP:
        if (seat->place != NEAP__ABSENT) neap__seat_append(&t->q, i, seat->queue);
        break;
      default: break;
    }
  }
  return 0;
}

static uint32_t two_q_pick(void *self) {
  two_q *t = self;
  uint32_t first = t->q.list[A1IN].count > neap__share(t->in, t->q.context->capacity) ? A1IN : AM;
  uint32_t i = neap__queue_oldest(&t->q, first);
  return i != 0 ? i : neap__queue_oldest(&t->q, !first);
}

static int two_q_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  return neap__queues_answer(self, two_q_pick, scope, out, max);
}

const neap_policy neap__policy_2q = {
    NEAP__POLICY_HEAD,        .wants = NEAP__WANTS_BASIC, .name = "2Q",
    .create = two_q_create,   .destroy = two_q_destroy,   .on_events = two_q_on_events,
    .victims = two_q_victims,
};
