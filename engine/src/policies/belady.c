/* SPDX-License-Identifier: MIT
 *
 * policies/belady.c - MIN (Belady, "A Study of Replacement Algorithms for a Virtual-Storage Computer", IBM Systems
 * Journal 1966): what is used last of all goes first. It has to know the future, so it is for replays: the upper bound
 * of the block hit ratio where all objects have one size. Of those never used again the least recently used goes first.
 * Logarithmic time per event (policies/ranked.h). */
#include "policies/params.h"
#include "policies/ranked.h"

static double belady_rank(neap__ranked *r, uint32_t slot) { return -(double)r->context->next[slot]; }

static int belady_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  int rc = neap__policy_params(policy->name, context->params, NULL, 0, err);
  if (rc != 0) return rc;
  if (context->next == NULL)
    return neap__fail(err, NEAP_EINVAL, "policy Belady needs to know the future; expected a replay of a trace");
  return neap__ranked_create(policy, context, belady_rank, self, err);
}

const neap_policy neap__policy_belady = NEAP__RANKED("Belady", belady_create, 0, 0);
