/* SPDX-License-Identifier: MIT
 *
 * policy/instance.h - one policy at work over one set of slots: told what happened, asked what should go, and never
 * believed.
 *
 * Every answer is checked: victims are slots, resident, proposed once, leaves where the policy says so. Short answers
 * are completed in recency order. A policy that returns an error, or whose answers are refused too often, is out: the
 * built-in LRU goes on from the recency order of the residents, and stays until neap__instance_switch. Used by the
 * live stream, by shadows and by replays alike: what is to be said of a policy that is out is theirs to say. One thread
 * at a time. */
#pragma once
#include <neap/policy.h>

#include "base/base.h"

typedef struct neap__instance neap__instance;

typedef struct neap__instance_config {
  const neap_policy *policy;
  const char *params; /* copied; NULL is "" */
  uint32_t slots;     /* 1 .. UINT32_MAX - 2 */
  uint32_t capacity;  /* objects, 0 = slots */
  uint64_t seed;
  neap_cost cost;
  const uint32_t *next; /* see neap_policy_context; borrowed, may be NULL */
} neap__instance_config;

/* 0, NEAP_ENOMEM, NEAP_EABI (a member of the table, named), NEAP_EINVAL, or the policy's own error. */
int neap__instance_open(const neap__instance_config *config, neap__instance **out, neap_error *err);
void neap__instance_close(neap__instance *instance);

/* Events of any type, in order. Those the policy does not want are filtered. */
void neap__instance_deliver(neap__instance *instance, const neap_event *events, uint32_t count);

/* At most max victims in scope: distinct, resident by the events so far, not handed out before without a REMOVE or KEEP
 * since. Short only if no more are left, or if the policy is a built-in and means it (noop). */
uint32_t neap__instance_victims(neap__instance *instance, uint32_t scope, uint32_t *out, uint32_t max);

/* The rows of all slots; `children` is the caller's to keep (policy/tree.h). */
neap_chunk *neap__instance_chunks(neap__instance *instance);
/* Its `capacity` is the caller's to set. */
neap_policy_context *neap__instance_context(neap__instance *instance);
const neap_policy *neap__instance_policy(neap__instance *instance);
/* The events that it acts on now, NEAP_WANTS(...): LEAF and UNLEAF together, if the policy wants either or may only
 * evict leaves; STORED and LOADED also if it makes plans, for their rows; those of the built-in if the policy is out.
 */
uint32_t neap__instance_wants(const neap__instance *instance);
bool neap__instance_works(const neap__instance *instance); /* it is not out */

/* The policy's other hooks, for whoever has a plan to make: false if it has none, or is out. A plan that the policy
 * leaves invalid counts as an error and the engine's own stands. */
bool neap__instance_store_plan(neap__instance *instance, neap_store_plan *plan);
bool neap__instance_load_plan(neap__instance *instance, neap_load_plan *plan);
void neap__instance_hint(neap__instance *instance, const neap_hint *hints, uint32_t count);
uint32_t neap__instance_predict(neap__instance *instance, neap_hint *out, uint32_t max);

/* Changes the policy, or starts the same one again: a new instance of it is created, given what one of its name before
 * it saved (at most 64 MiB) and told of all residents in recency order, then takes over. Which tiers have them is told
 * (STORED) as far as a policy before asked for it. On failure everything is as it was. */
int neap__instance_switch(neap__instance *instance, const neap_policy *policy, const char *params, neap_error *err);

typedef struct neap__instance_stats {
  uint64_t events, proposals, refused, completed; /* completed: victims that the policy should have named */
  uint32_t residents;
  bool out;       /* the built-in has taken over */
  neap_error why; /* what the policy did; "" while it works */
} neap__instance_stats;
void neap__instance_stats_get(const neap__instance *instance, neap__instance_stats *out);
