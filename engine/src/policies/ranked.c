/* SPDX-License-Identifier: MIT
 *
 * policies/ranked.c - see ranked.h. */
#include "policies/ranked.h"

#include <stdlib.h>

#include "policies/params.h"

int neap__ranked_create(const neap_policy *policy, const neap_policy_context *context,
                        double (*rank)(neap__ranked *ranked, uint32_t slot), void **self, neap_error *err) {
  int rc = neap__policy_params(policy->name, context->params, NULL, 0, err);
  if (rc != 0) return rc;
  neap__ranked *r = calloc(1, sizeof(*r));
  if (r == NULL) goto no_memory;
  *r = (neap__ranked){.context = context, .rank = rank};
  r->leaves_only = (policy->constraint & NEAP_EVICT_LEAF) != 0;
  r->slots = calloc(context->slots, sizeof(*r->slots));
  if (r->slots == NULL || !neap__heap_open(&r->heap, context->slots)) goto no_memory;
  *self = r;
  return 0;

no_memory:
  if (r != NULL) neap__ranked_destroy(r);
  return neap__fail(err, NEAP_ENOMEM, "%s: no memory for %u slots", policy->name, context->slots);
}

void neap__ranked_destroy(void *self) {
  neap__ranked *r = self;
  neap__heap_close(&r->heap);
  free(r->slots);
  free(r);
}

/* --- events --------------------------------------------------------------------------------------------------- */

static void place(neap__ranked *r, uint32_t slot) {
  neap__ranked_slot *s = &r->slots[slot];
  if (s->place == NEAP__LISTED && !(s->inner && r->leaves_only))
    neap__heap_put(&r->heap, slot, s->rank);
  else
    neap__heap_take(&r->heap, slot);
}

static void rank(neap__ranked *r, uint32_t slot) {
  r->clock++;
  r->slots[slot].rank = r->rank(r, slot);
  place(r, slot);
}

static void ranked_event(neap__ranked *r, const neap_event *ev) {
  uint32_t slot = ev->slot;
  neap__ranked_slot *s = &r->slots[slot];
  if (ev->type == NEAP_EV_INSERT) {
    *s = (neap__ranked_slot){.tenant = ev->tenant, .kib = ev->kib, .pos = ev->pos, .uses = 1, .place = NEAP__LISTED};
    rank(r, slot);
    return;
  }
  if (s->place == NEAP__ABSENT) return;
  switch (ev->type) {
    case NEAP_EV_HIT:
      if (s->uses < UINT32_MAX) s->uses++;
      rank(r, slot);
      break;
    case NEAP_EV_KEEP:
      s->place = NEAP__LISTED;
      rank(r, slot);
      break;
    case NEAP_EV_REMOVE:
      s->place = NEAP__ABSENT;
      place(r, slot);
      break;
    case NEAP_EV_LEAF:
    case NEAP_EV_UNLEAF:
      s->inner = ev->type == NEAP_EV_UNLEAF;
      place(r, slot);
      break;
    default: break;
  }
}

int neap__ranked_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  for (uint32_t n = 0; n < count; n++) ranked_event(self, &events[n]);
  return 0;
}

/* --- victims -------------------------------------------------------------------------------------------------- */

static const neap__heap_entry *first_in_scope(const neap__ranked *r, uint32_t scope) {
  const neap__heap_entry *best = NULL;
  if (scope == NEAP_SCOPE_ALL) return r->heap.count != 0 ? r->heap.entries : NULL;
  for (const neap__heap_entry *e = r->heap.entries; e < r->heap.entries + r->heap.count; e++) {
    if (r->slots[e->item].tenant != scope) continue;
    if (best == NULL || neap__heap_before(e, best)) best = e;
  }
  return best;
}

int neap__ranked_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  neap__ranked *r = self;
  uint32_t got = 0;
  while (got < max) {
    const neap__heap_entry *first = first_in_scope(r, scope);
    if (first == NULL) break;
    uint32_t slot = first->item;
    r->floor = first->rank;
    r->slots[slot].place = NEAP__PROPOSED;
    place(r, slot);
    out[got++] = slot;
  }
  return (int)got;
}
