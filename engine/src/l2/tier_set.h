/* SPDX-License-Identifier: MIT
 *
 * l2/tier_set.h - the tiers of a running engine, which come and go.
 *
 *   attach --> [opening] --> attached --> draining --> closed: the slot is free
 *
 * A tier lives in a slot; the number of the slot is its index and stays the same until the tier is closed. Its name is
 * unique and stays with it, too. A draining tier gets nothing new; what it was asked before goes on, and so do loads of
 * what a lookup had found in it.
 *
 * The loop thread decides: slots become attached and draining on it, so what it sees does not change under its hands.
 * Other threads hold a tier while they look at it, and no tier closes while it is held. */
#pragma once
#include "l2/tier.h"

#define NEAP_TIERS_MAX 16u
#define NEAP_TIER_NAME_BYTES 64u

typedef struct neap__tier_set neap__tier_set;

int neap__tier_set_open(const neap__tier_env *env, const char *plugin_dirs, neap__tier_set **out);
/* Closes every tier within grace_ms, all of them together, and frees the set; false if an adapter was left open (see
 * neap__tier_close). No change is under way, nothing is held. Not on the loop thread. */
bool neap__tier_set_close(neap__tier_set *set, uint64_t grace_ms);

/* --- on the loop thread ---------------------------------------------------------------------------------------- */

/* The tier in a slot that may be given new work, or NULL. */
neap__tier *neap__tier_set_route(const neap__tier_set *set, uint32_t index);
/* The tier in a slot, draining ones included, or NULL. */
neap__tier *neap__tier_set_at(const neap__tier_set *set, uint32_t index);

/* --- on any thread --------------------------------------------------------------------------------------------- */

/* How many are attached. */
uint32_t neap__tier_set_count(const neap__tier_set *set);

typedef struct neap__tier_entry {
  neap__tier *tier;
  uint32_t index;
  bool draining;
  char name[NEAP_TIER_NAME_BYTES];
} neap__tier_entry;

/* All tiers by index, each held until the view is dropped. */
typedef struct neap__tier_view {
  uint32_t count;
  neap__tier_entry entries[NEAP_TIERS_MAX];
} neap__tier_view;
void neap__tier_set_view(neap__tier_set *set, neap__tier_view *out);
void neap__tier_view_drop(neap__tier_set *set, const neap__tier_view *view);
/* Holds one tier, by its name or the digits of its index. NEAP_ENOENT with the nearest name in err. */
int neap__tier_set_hold(neap__tier_set *set, const char *name, neap__tier_entry *out, neap_error *err);
/* Ends one hold. */
void neap__tier_set_drop(neap__tier_set *set, uint32_t index);
/* The texts of a held tier's configuration that may change, malloc'd: its parameters, and the whole with secrets
 * masked. NULL when there is no memory. */
char *neap__tier_set_params(neap__tier_set *set, uint32_t index);
char *neap__tier_set_shown(neap__tier_set *set, uint32_t index);

/* --- changes; any thread but the loop, one at a time per tier (else NEAP_EBUSY). They block. ------------------- */

/* Parses a configuration (see neap__tier_config_parse, also for number), opens the adapter, and publishes the tier.
 * out: where it is, not held; may be NULL. */
int neap__tier_set_attach(neap__tier_set *set, const char *json, uint32_t number, neap__tier_entry *out,
                          neap_error *err);

/* Makes a tier drain, waits until it is quiet, closes it. After grace_ms what somebody still waits for is given up
 * (NEAP_ECANCELED): forget is called on the loop thread, with the index, to make everybody forget what lookups found
 * there. When the adapter has operations even then, the tier goes on draining and the answer is NEAP_ETIMEDOUT; detach
 * may be called again. */
int neap__tier_set_detach(neap__tier_set *set, const char *name, uint64_t grace_ms,
                          void (*forget)(void *ctx, uint32_t index), void *ctx, neap_error *err);
/* Replaces the adapter of a tier by a new instance of it: its module is read anew, its parameters are those that it
 * has, with those of params_json (an object; may be NULL) instead. See neap__tier_reload. */
int neap__tier_set_reload(neap__tier_set *set, const char *name, const char *params_json, uint64_t grace_ms,
                          uint32_t *left, neap_error *err);

/* Changes parameters of a running adapter: those that its schema declares live. */
int neap__tier_set_configure(neap__tier_set *set, const char *name, const char *params_json, neap_error *err);

/* From now on changes wait for nothing: for a server that is about to end. */
void neap__tier_set_hurry(neap__tier_set *set);
