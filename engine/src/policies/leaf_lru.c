/* SPDX-License-Identifier: MIT
 *
 * policies/leaf_lru.c - the least recently used leaf: nothing goes that something resident continues, as in SGLang's
 * radix cache (Zheng and others, "SGLang: Efficient Execution of Structured Language Model Programs", NeurIPS 2024).
 * Where requests are told tail first, LRU does nearly the same without a tree. Logarithmic time per event
 * (policies/ranked.h). */
#include "policies/ranked.h"

static double leaf_lru_rank(neap__ranked *r, uint32_t slot) {
  (void)slot;
  return r->clock;
}

static int leaf_lru_create(const neap_policy *policy, const neap_policy_context *context, void **self,
                           neap_error *err) {
  return neap__ranked_create(policy, context, leaf_lru_rank, self, err);
}

const neap_policy neap__policy_leaf_lru =
    NEAP__RANKED("LeafLRU", leaf_lru_create, NEAP_WANTS(LEAF) | NEAP_WANTS(UNLEAF), NEAP_EVICT_LEAF);
