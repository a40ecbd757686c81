/* SPDX-License-Identifier: MIT
 *
 * policies/slru.c - segmented LRU (policies/segments.h).
 *
 * Parameter: segments (4, of equal shares), as in libCacheSim. A victim that could not go is put at the new end of its
 * segment. 16 bytes per slot. */
#include "policies/params.h"
#include "policies/segments.h"

typedef struct slru {
  neap__queues q;
  neap__segments segments;
} slru;

static int slru_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  slru *s = *self = neap__queues_new(policy, context, sizeof(*s), err);
  if (s == NULL) return NEAP_ENOMEM;
  double segments = 4;
  const neap__policy_param known[] = {{"segments", &segments, 1, NEAP__QUEUES}};
  int rc = neap__policy_params(policy->name, context->params, known, NEAP_ARRAY_LEN(known), err);
  s->segments = (neap__segments){.q = &s->q, .count = (uint32_t)segments};
  if (rc != 0) neap__queues_destroy(s);
  return rc;
}

static int slru_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  slru *s = self;
  for (uint32_t n = 0; n < s->segments.count; n++) s->segments.limit[n] = s->q.context->capacity / s->segments.count;
  for (const neap_event *ev = events; ev < events + count; ev++) {
    uint32_t i = ev->slot + 1;
    const neap__seat *seat = &s->q.seats[i];
    switch (ev->type) {
      case NEAP_EV_INSERT: neap__seat_enter(&s->q, ev, neap__segment_for_new(&s->segments)); break;
      case NEAP_EV_HIT:
        if (seat->place == NEAP__LISTED) neap__segments_use(&s->segments, i);
        break;
      case NEAP_EV_REMOVE: neap__seat_leave(&s->q, i); break;
      case NEAP_EV_KEEP:
        if (seat->place != NEAP__ABSENT) neap__seat_append(&s->q, i, seat->queue);
        break;
      default: break;
    }
  }
  return 0;
}

static uint32_t slru_pick(void *self) { return neap__segments_oldest(&((slru *)self)->segments); }

static int slru_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  return neap__queues_answer(self, slru_pick, scope, out, max);
}

const neap_policy neap__policy_slru = {
    NEAP__POLICY_HEAD,       .wants = NEAP__WANTS_BASIC,      .name = "SLRU",
    .create = slru_create,   .destroy = neap__queues_destroy, .on_events = slru_on_events,
    .victims = slru_victims,
};
