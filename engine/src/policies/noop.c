/* SPDX-License-Identifier: MIT
 *
 * policies/noop.c - the policy of an operator who wants no eviction: it keeps nothing and proposes nothing. */
#include "policies/builtin.h"
#include "policies/params.h"

static int noop_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  *self = NULL;
  return neap__policy_params(policy->name, context->params, NULL, 0, err);
}

static int noop_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)self, (void)events, (void)count, (void)err;
  return 0;
}

static int noop_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)self, (void)scope, (void)out, (void)max, (void)err;
  return 0;
}

static void noop_destroy(void *self) { (void)self; }

const neap_policy neap__policy_noop = {
    NEAP__POLICY_HEAD,           .flags = NEAP_POLICY_SHORT_STANDS, .name = "noop",          .create = noop_create,
    .on_events = noop_on_events, .victims = noop_victims,           .destroy = noop_destroy,
};
