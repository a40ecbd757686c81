/* SPDX-License-Identifier: MIT
 *
 * policies/sieve.c - SIEVE (Zhang and others, "SIEVE is Simpler than LRU", NSDI 2024): a queue in the order of arrival
 * and a hand that walks from old to new, takes the mark of what was used off and evicts what has none.
 *
 * What was used stays where it is, so hits cost a store. On traffic of conversations, whose chunks come back only after
 * the hand has passed, the hand stops wrapping and it behaves as LFU does. A tenant's victims are found by a walk from
 * the hand that leaves the others' marks alone and moves the hand only past its own. 16 bytes per slot. */
#include "policies/params.h"
#include "policies/queues.h"

typedef struct sieve {
  neap__queues q; /* queue 0; mark: used since the hand passed */
  uint32_t hand;  /* 0: at the old end */
} sieve;

static int sieve_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  int rc = neap__policy_params(policy->name, context->params, NULL, 0, err);
  if (rc != 0) return rc;
  *self = neap__queues_new(policy, context, sizeof(sieve), err);
  return *self != NULL ? 0 : NEAP_ENOMEM;
}

static void pass(sieve *s, uint32_t i) {
  if (s->hand == i) s->hand = s->q.seats[i].link.next;
}

static int sieve_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  sieve *s = self;
  for (const neap_event *ev = events; ev < events + count; ev++) {
    uint32_t i = ev->slot + 1;
    neap__seat *seat = &s->q.seats[i];
    switch (ev->type) {
      case NEAP_EV_INSERT:
        pass(s, i);
        neap__seat_enter(&s->q, ev, 0);
        break;
      case NEAP_EV_HIT: seat->mark = 1; break;
      case NEAP_EV_REMOVE:
        pass(s, i);
        neap__seat_leave(&s->q, i);
        break;
      case NEAP_EV_KEEP:
        if (seat->place == NEAP__ABSENT) break;
        pass(s, i);
        neap__seat_append(&s->q, i, 0);
        break;
      default: break;
    }
  }
  return 0;
}

/* Twice round at most: the first time every mark of the scope is taken off. */
static uint32_t sieve_pick(void *self) {
  sieve *s = self;
  const neap__list *list = &s->q.list[0];
  uint32_t i = s->hand;
  for (uint64_t steps = 2 * (uint64_t)list->count + 1; steps > 0; steps--) {
    if (i == 0) i = list->oldest;
    if (i == 0) return 0;
    neap__seat *seat = &s->q.seats[i];
    uint32_t next = seat->link.next;
    if (neap__seat_in_scope(&s->q, i)) {
      if (seat->mark == 0) {
        s->hand = next;
        return i;
      }
      seat->mark = 0;
    }
    i = next;
  }
  return 0;
}

static int sieve_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  return neap__queues_answer(self, sieve_pick, scope, out, max);
}

const neap_policy neap__policy_sieve = {
    NEAP__POLICY_HEAD,        .wants = NEAP__WANTS_BASIC,      .name = "SIEVE",
    .create = sieve_create,   .destroy = neap__queues_destroy, .on_events = sieve_on_events,
    .victims = sieve_victims,
};
