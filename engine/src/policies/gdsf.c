/* SPDX-License-Identifier: MIT
 *
 * policies/gdsf.c - GreedyDual-Size with frequency (Cherkasova, "Improving WWW Proxies Performance with
 * Greedy-Dual-Size-Frequency Caching Policy", HP Labs 1998): rank = L + uses * cost / size, L being the rank of the
 * last victim, so that what is not used any more is overtaken. Of equal ranks the least recently used goes first.
 *
 * The cost is that of computing the chunk again, which grows with its position. Later chunks being worth more, plain
 * GDSF would evict heads before their tails; so only leaves go. Logarithmic time per event (policies/ranked.h). */
#include "policies/ranked.h"

/* Without a cost model every chunk costs the same; a chunk of unknown size has one unit. */
static double gdsf_rank(neap__ranked *r, uint32_t slot) {
  const neap__ranked_slot *s = &r->slots[slot];
  double cost = r->context->cost.base_us + r->context->cost.slope_us * s->pos;
  return r->floor + s->uses * (cost > 0 ? cost : 1) / NEAP_MAX(s->kib, 1);
}

static int gdsf_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  return neap__ranked_create(policy, context, gdsf_rank, self, err);
}

const neap_policy neap__policy_gdsf =
    NEAP__RANKED("GDSF", gdsf_create, NEAP_WANTS(LEAF) | NEAP_WANTS(UNLEAF), NEAP_EVICT_LEAF);
