/* SPDX-License-Identifier: MIT
 *
 * policies/isolated_lru.c - one LRU per tenant over one LRU of all: every slot is in two lists, so the oldest of a
 * tenant and the oldest of all are both found in constant time. The order is that of lru.c; the answers are those of
 * isolated.c around it, for 24 bytes per slot however many tenants there are.
 *
 * Tenants share 65,536 buckets by the low bits of their number. Numbers are dense, so a bucket holds one tenant until
 * there are more of them than that; then a walk skips the neighbours. Quotas are not here: flow/evict asks for a tenant
 * when it is over. */
#include <stdlib.h>

#include "base/base.h"
#include "policies/builtin.h"
#include "policies/params.h"

#define TENANT_BUCKETS 65536u

typedef struct pair {
  neap__link all, own;
  uint32_t tenant;
  uint32_t place; /* neap__place */
} pair;

typedef struct isolated {
  neap__list all;
  neap__list own[TENANT_BUCKETS];
  pair nodes[]; /* slots + 1, see builtin.h */
} isolated;

static int isolated_create(const neap_policy *policy, const neap_policy_context *context, void **self,
                           neap_error *err) {
  int rc = neap__policy_params(policy->name, context->params, NULL, 0, err);
  if (rc != 0) return rc;
  *self = calloc(1, sizeof(isolated) + ((size_t)context->slots + 1) * sizeof(pair));
  if (*self != NULL) return 0;
  return neap__fail(err, NEAP_ENOMEM, "IsolatedLRU: no memory for %u slots", context->slots);
}

static void isolated_destroy(void *self) { free(self); }

static neap__list *own_list(isolated *s, uint32_t tenant) { return &s->own[tenant % TENANT_BUCKETS]; }

static void leave(isolated *s, uint32_t i, neap__place place) {
  pair *node = &s->nodes[i];
  if (node->place == NEAP__LISTED) {
    neap__list_unlink(&s->all, &s->nodes->all, sizeof(pair), i);
    neap__list_unlink(own_list(s, node->tenant), &s->nodes->own, sizeof(pair), i);
  }
  node->place = place;
}

static void enter(isolated *s, uint32_t i, uint32_t tenant) {
  leave(s, i, NEAP__LISTED);
  s->nodes[i].tenant = tenant;
  neap__list_append(&s->all, &s->nodes->all, sizeof(pair), i);
  neap__list_append(own_list(s, tenant), &s->nodes->own, sizeof(pair), i);
}

static int isolated_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  isolated *s = self;
  for (const neap_event *ev = events; ev < events + count; ev++) {
    if (ev->slot == NEAP_POLICY_NO_SLOT) continue;
    uint32_t i = ev->slot + 1;
    const pair *node = &s->nodes[i];
    if (ev->type == NEAP_EV_INSERT) enter(s, i, ev->tenant);
    if (ev->type == NEAP_EV_HIT && node->place == NEAP__LISTED) enter(s, i, node->tenant);
    if (ev->type == NEAP_EV_KEEP && node->place != NEAP__ABSENT) enter(s, i, node->tenant);
    if (ev->type == NEAP_EV_REMOVE) leave(s, i, NEAP__ABSENT);
  }
  return 0;
}

static int isolated_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  isolated *s = self;
  bool everybody = scope == NEAP_SCOPE_ALL;
  uint32_t got = 0;
  uint32_t i = everybody ? s->all.oldest : own_list(s, scope)->oldest;
  while (i != 0 && got < max) {
    uint32_t next = everybody ? s->nodes[i].all.next : s->nodes[i].own.next;
    if (everybody || s->nodes[i].tenant == scope) {
      leave(s, i, NEAP__PROPOSED);
      out[got++] = i - 1;
    }
    i = next;
  }
  return (int)got;
}

const neap_policy neap__policy_isolated_lru = {
    NEAP__POLICY_HEAD,           .wants = NEAP__WANTS_BASIC,      .name = "IsolatedLRU",
    .create = isolated_create,   .on_events = isolated_on_events, .victims = isolated_victims,
    .destroy = isolated_destroy,
};
