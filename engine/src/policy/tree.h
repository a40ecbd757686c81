/* SPDX-License-Identifier: MIT
 *
 * policy/tree.h - which resident chunks are continued by other resident ones, in the live engine; those that are not
 * are leaves.
 *
 * A chunk is known by the first eight bytes of its hash and its tenant. It may be in several slots, one for each rank
 * and layout: together they are one family, which is a leaf as long as no family that continues it is in any slot. Who
 * continues whom is learnt from prompts, before or after their chunks become resident; a chunk of which nobody has said
 * what it continues counts as the first one of a prompt.
 *
 * Chunks that are not resident are remembered for a while: their number is bounded by that of the resident ones, those
 * seen least recently go first. A ghost cache does the same by index (policy/ghost_cache.c): its chunks have dense
 * numbers and one slot each, and its lineage forgets nothing by itself, so it needs none of what this is made of. One
 * thread at a time. */
#pragma once
#include <neap/policy.h>

#include "base/base.h"

typedef struct neap__tree neap__tree;

/* A resident slot has become a leaf (LEAF) or is none any more (UNLEAF). */
typedef void (*neap__tree_told)(void *ctx, neap_event_type change, uint32_t slot, uint64_t hash, uint32_t tenant);

/* rows: [slots], borrowed; the tree keeps `children` in them. 0 or NEAP_ENOMEM. */
int neap__tree_open(uint32_t slots, neap_chunk *rows, neap__tree_told told, void *ctx, neap__tree **out);
void neap__tree_close(neap__tree *tree); /* nobody has children any more */

/* A slot became resident; it is a leaf unless it is told otherwise. Without memory it is one and stays one. */
void neap__tree_insert(neap__tree *tree, uint32_t slot, uint64_t hash, uint32_t tenant);
void neap__tree_remove(neap__tree *tree, uint32_t slot);

typedef enum neap__tree_step {
  NEAP__TREE_FIRST = 0,  /* the first chunk of a prompt */
  NEAP__TREE_NEXT = 1,   /* continues the chunk of the call before */
  NEAP__TREE_RESUME = 2, /* nothing new: the next call continues this chunk */
} neap__tree_step;

/* Tells a prompt, chunk after chunk. */
void neap__tree_learn(neap__tree *tree, uint64_t hash, uint32_t tenant, neap__tree_step step);

typedef struct neap__tree_stats {
  uint32_t families, chunks; /* resident; known, resident or not */
} neap__tree_stats;
void neap__tree_stats_get(const neap__tree *tree, neap__tree_stats *out);
