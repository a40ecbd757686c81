/* SPDX-License-Identifier: MIT
 *
 * policies/isolated.h - any policy, once per tenant: what one tenant does neither ages nor protects another's chunks.
 *
 * Asked for a tenant's victims, that tenant's instance answers. Asked for anybody's, whoever has the least recently
 * used slot gives, and its instance says what: isolated:lru names what LRU over all would, and is built in leaner
 * (policies/isolated_lru.c: 24 bytes per slot however many tenants there are; here every instance touches its own
 * pages).
 *
 * Instances are made when a tenant comes; tenants that are equal in their low 8 bits share one (numbers are dense).
 * Each is told the share of the capacity that its slots have of all residents. save and load are not offered. */
#pragma once
#include <neap/policy.h>

typedef struct neap__isolated {
  neap_policy table; /* what the engine works with */
  const neap_policy *inner;
  struct neap__isolated *next; /* registry's */
  char name[72];
} neap__isolated;

/* Fills in a table around a checked policy; both stay as long as anybody works with them. Policies that score are
 * not asked for victims, but their scores are told by the tenant's instance. */
void neap__isolated_init(neap__isolated *isolated, const neap_policy *inner);
