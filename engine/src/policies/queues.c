/* SPDX-License-Identifier: MIT
 *
 * policies/queues.c - see queues.h: making and freeing. */
#include "policies/queues.h"

#include <stdlib.h>

#include "policies/params.h"

void *neap__queues_new(const neap_policy *policy, const neap_policy_context *context, size_t bytes, neap_error *err) {
  neap__queues *q = calloc(1, bytes);
  if (q != NULL) q->seats = calloc((size_t)context->slots + 1, sizeof(*q->seats));
  if (q == NULL || q->seats == NULL) {
    free(q);
    neap__fail(err, NEAP_ENOMEM, "policy %s: no memory for %u slots", policy->name, context->slots);
    return NULL;
  }
  q->context = context;
  return q;
}

void neap__queues_destroy(void *self) {
  neap__queues *q = self;
  free(q->seats);
  free(q);
}

int neap__queues_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  int rc = neap__policy_params(policy->name, context->params, NULL, 0, err);
  if (rc != 0) return rc;
  *self = neap__queues_new(policy, context, sizeof(neap__queues), err);
  return *self != NULL ? 0 : NEAP_ENOMEM;
}
