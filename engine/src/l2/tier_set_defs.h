/* SPDX-License-Identifier: MIT
 *
 * l2/tier_set_defs.h - what the files of a set of tiers share: tier_set.c (who is there) and tier_change.c (changes of
 * those that stay). */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "l2/tier_set.h"

typedef enum neap__slot_state {
  NEAP_SLOT_FREE,
  NEAP_SLOT_OPENING,
  NEAP_SLOT_ATTACHED,
  NEAP_SLOT_DRAINING,
  NEAP_SLOT_CLOSING
} neap__slot_state;

typedef struct neap__slot {
  neap__slot_state state;
  bool changing; /* by one thread, which may read and write all of the slot */
  uint32_t holds;
  neap__tier *tier;
  neap__tier_config config; /* its texts change under the lock */
  char *json;               /* what it was parsed from, and every change since: secrets included */
  char name[NEAP_TIER_NAME_BYTES];
} neap__slot;

struct neap__tier_set {
  neap__tier_env env;
  const char *plugin_dirs;
  neap__tier *routes[NEAP_TIERS_MAX], *tiers[NEAP_TIERS_MAX];
  _Atomic uint32_t attached;
  atomic_bool hurry;
  pthread_mutex_t lock;
  pthread_cond_t dropped;
  neap__slot slots[NEAP_TIERS_MAX];
};

/* Takes a slot for a change, and gives it back. */
int neap__slot_claim(neap__tier_set *set, const char *name, uint32_t *index, neap_error *err);
void neap__slot_unclaim(neap__tier_set *set, uint32_t index);
