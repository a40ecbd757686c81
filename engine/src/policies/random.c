/* SPDX-License-Identifier: MIT
 *
 * policies/random.c - Random: any slot at all, the same ones for the same seed: what a policy has to beat. A tenant's
 * victims are found by a walk from a place drawn at random. 9 bytes per slot. */
#include "policies/builtin.h"
#include "policies/params.h"
#include "policies/sampler.h"
#include "policies/splitmix.h"

typedef struct dice {
  neap__sampler listed;
  uint64_t random;
  const neap_policy_context *context;
  uint8_t place[]; /* by slot, neap__place */
} dice;

static int drawn_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  int rc = neap__policy_params(policy->name, context->params, NULL, 0, err);
  if (rc != 0) return rc;
  dice *d = calloc(1, sizeof(*d) + context->slots);
  if (d == NULL || !neap__sampler_open(&d->listed, context->slots)) {
    free(d);
    return neap__fail(err, NEAP_ENOMEM, "Random: no memory for %u slots", context->slots);
  }
  d->random = context->seed;
  d->context = context;
  *self = d;
  return 0;
}

static void drawn_destroy(void *self) {
  neap__sampler_close(&((dice *)self)->listed);
  free(self);
}

static void set_place(dice *d, uint32_t slot, neap__place place) {
  d->place[slot] = (uint8_t)place;
  if (place == NEAP__LISTED)
    neap__sampler_add(&d->listed, slot);
  else
    neap__sampler_remove(&d->listed, slot);
}

static int drawn_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  dice *d = self;
  for (const neap_event *ev = events; ev < events + count; ev++) {
    if (ev->type == NEAP_EV_INSERT) set_place(d, ev->slot, NEAP__LISTED);
    if (ev->type == NEAP_EV_KEEP && d->place[ev->slot] != NEAP__ABSENT) set_place(d, ev->slot, NEAP__LISTED);
    if (ev->type == NEAP_EV_REMOVE) set_place(d, ev->slot, NEAP__ABSENT);
  }
  return 0;
}

/* False if nobody of that scope is left. */
static bool draw(dice *d, uint32_t scope, uint32_t *slot) {
  uint32_t count = d->listed.count;
  uint32_t at = count != 0 ? neap__random_below(&d->random, count) : 0;
  for (uint32_t n = 0; n < count; n++, at = at + 1 < count ? at + 1 : 0) {
    *slot = d->listed.slots[at];
    if (scope == NEAP_SCOPE_ALL || d->context->chunk[*slot].tenant == scope) return true;
  }
  return false;
}

static int drawn_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  dice *d = self;
  uint32_t got = 0;
  for (uint32_t slot; got < max && draw(d, scope, &slot); out[got++] = slot) set_place(d, slot, NEAP__PROPOSED);
  return (int)got;
}

const neap_policy neap__policy_random = {
    NEAP__POLICY_HEAD,        .wants = NEAP_WANTS(INSERT) | NEAP_WANTS(REMOVE) | NEAP_WANTS(KEEP),
    .name = "Random",         .create = drawn_create,
    .destroy = drawn_destroy, .on_events = drawn_on_events,
    .victims = drawn_victims,
};
