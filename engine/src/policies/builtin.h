/* SPDX-License-Identifier: MIT
 *
 * policies/builtin.h - the built-in policies and the one list they are made of. Internal to policy/.
 *
 * A list links nodes of an array by number, oldest first. Number 0 is nobody, so that zeroed memory is an empty list
 * and untouched pages cost nothing; slot s is node s + 1. A built-in names every resident slot sooner or later: its
 * answer is short only when nothing is left, noop excepted, which never names any. */
#pragma once
#include <neap/policy.h>

#include "base/base.h"

extern const neap_policy neap__policy_2q, neap__policy_arc, neap__policy_belady, neap__policy_fifo, neap__policy_gdsf,
    neap__policy_isolated_lru, neap__policy_leaf_lru, neap__policy_lfu, neap__policy_lirs, neap__policy_lru,
    neap__policy_noop, neap__policy_random, neap__policy_s3fifo, neap__policy_sieve, neap__policy_slru,
    neap__policy_wtinylfu;

/* How a table begins. */
#define NEAP__POLICY_HEAD .magic = NEAP_POLICY_MAGIC, .abi = NEAP_POLICY_ABI, .size = sizeof(neap_policy)

/* What a policy that keeps an order has to hear of. */
#define NEAP__WANTS_BASIC (NEAP_WANTS(INSERT) | NEAP_WANTS(HIT) | NEAP_WANTS(REMOVE) | NEAP_WANTS(KEEP))

/* That share of a number of objects, rounded down. */
static inline uint32_t neap__share(double share, uint32_t of) { return (uint32_t)NEAP_MIN(share * of, UINT32_MAX / 2); }

/* Where a slot is. A proposed slot is in no list, so that it cannot be proposed again before REMOVE or KEEP. */
typedef enum neap__place { NEAP__ABSENT = 0, NEAP__LISTED, NEAP__PROPOSED } neap__place;

typedef struct neap__link {
  uint32_t prev, next;
} neap__link;

typedef struct neap__list {
  uint32_t oldest, newest, count;
} neap__list;

/* The links of node i; stride lets the links lie inside larger nodes. */
static inline neap__link *neap__link_at(void *links, size_t stride, uint32_t i) {
  return (neap__link *)(void *)((char *)links + (size_t)i * stride);
}

static inline void neap__list_append(neap__list *list, void *links, size_t stride, uint32_t i) {
  neap__link *link = neap__link_at(links, stride, i);
  link->prev = list->newest;
  link->next = 0;
  if (list->newest != 0)
    neap__link_at(links, stride, list->newest)->next = i;
  else
    list->oldest = i;
  list->newest = i;
  list->count++;
}

static inline void neap__list_unlink(neap__list *list, void *links, size_t stride, uint32_t i) {
  neap__link *link = neap__link_at(links, stride, i);
  if (link->prev != 0)
    neap__link_at(links, stride, link->prev)->next = link->next;
  else
    list->oldest = link->next;
  if (link->next != 0)
    neap__link_at(links, stride, link->next)->prev = link->prev;
  else
    list->newest = link->prev;
  list->count--;
}
