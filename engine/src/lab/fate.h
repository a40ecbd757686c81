/* SPDX-License-Identifier: MIT
 *
 * lab/fate.h - what became of chunks that are not in L1 any more, and why lookups miss.
 *
 * A bounded table: a note is written when an object leaves L1 or was refused, and stays until its place is needed for a
 * later one. A lookup that finds everything never comes here. Any thread; one short lock of a few places at a time. */
#pragma once
#include "chunk/key.h"
#include "policy/registry.h"

typedef struct neap__fate neap__fate;

/* One list makes the enum and the names in metrics and answers. */
#define NEAP_FATE_MAP(XX)                                                                  \
  XX(NEVER_SEEN, "never_seen") /* as far back as the table goes */                         \
  XX(EVICTED, "evicted")       /* the policy chose it */                                   \
  XX(REFUSED, "refused")       /* there was no room, and nothing that could go */          \
  XX(EXPIRED, "expired")       /* loaded for one reader only (l2-prefetch-policy) */       \
  XX(CLEARED, "cleared")                                                                   \
  XX(DELETED, "deleted")                                                                   \
  XX(LOST, "lost")                 /* a tier was said to have it, and could not deliver */ \
  XX(OTHER_LAYOUT, "other_layout") /* the model has it in another layout or world size */

typedef enum neap__fate_reason {
#define XX(name, text) NEAP_FATE_##name,
  NEAP_FATE_MAP(XX)
#undef XX
      NEAP_FATE_REASONS
} neap__fate_reason;
const char *neap__fate_name(neap__fate_reason reason);

typedef struct neap__fate_entry {
  neap__fate_reason reason;
  uint64_t time_ns;        /* neap__now_ns */
  uint64_t bytes;          /* of the object */
  uint64_t inserted_bytes; /* into L1 since then */
  char policy[256];        /* at work then, as it was written; "" if it had no part in it */
  char place[256];         /* FILE:LINE of the hook that was asked, "" if not known */
} neap__fate_entry;

/* chunks: how many to remember, rounded up. 0 or NEAP_ENOMEM. */
int neap__fate_open(uint32_t chunks, neap__fate **out);
void neap__fate_close(neap__fate *fate);

/* The policy at work from now on, as it was written, and where its hook for victims is ("" if that is not known). */
void neap__fate_policy(neap__fate *fate, const char *spec, const char *place);

/* An object became resident (reason 0) or left L1. fate is a neap__fate; fits neap__l1_config.moved. */
void neap__fate_moved(void *fate, const neap__key *key, neap_remove_reason reason, uint64_t bytes);
void neap__fate_note(neap__fate *fate, const neap__key *key, neap__fate_reason reason, uint64_t bytes);

/* False: nothing is known. The last note counts. */
bool neap__fate_find(neap__fate *fate, const neap__key *key, neap__fate_entry *out);

/* A lookup ended before a chunk that it lacks: `chunks` chunks of its prompt are missed because of it. */
void neap__fate_missed(neap__fate *fate, neap__fate_reason reason, uint32_t chunks);

typedef struct neap__fate_stats {
  uint64_t lookups[NEAP_FATE_REASONS], chunks[NEAP_FATE_REASONS]; /* missed */
} neap__fate_stats;
void neap__fate_stats_get(neap__fate *fate, neap__fate_stats *out);
