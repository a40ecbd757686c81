/* SPDX-License-Identifier: MIT
 *
 * policies/lfu.c - least frequently used, by an exact count of the uses since insertion; of equal counts the least
 * recently used goes first. Nothing ages: what was popular once stays. Logarithmic time per event (policies/ranked.h).
 */
#include "policies/ranked.h"

static double lfu_rank(neap__ranked *r, uint32_t slot) { return r->slots[slot].uses; }

static int lfu_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  return neap__ranked_create(policy, context, lfu_rank, self, err);
}

const neap_policy neap__policy_lfu = NEAP__RANKED("LFU", lfu_create, 0, 0);
