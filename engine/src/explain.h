/* SPDX-License-Identifier: MIT
 *
 * explain.h - where chunks are, and why they are there or not: of each object (one per rank of a chunk) its place in
 * L1, the tiers that say they have it, and, if it left L1, when, by whom, and how much larger L1 would have had to be
 * for an order of recency to keep it. Names only: no payload is read. Not here: which chunks are meant (serve/,
 * console/). */
#pragma once
#include <cjson/cJSON.h>

#include "engine.h"

#define NEAP_EXPLAIN_OBJECTS_MAX 16384u

typedef struct neap__explain neap__explain;

typedef struct neap__explain_request {
  uint32_t space, tenant, world, chunks;    /* world: ranks of a chunk */
  const uint8_t (*hashes)[NEAP_HASH_BYTES]; /* [chunks], copied */
  void (*done)(void *ctx);                  /* on the loop thread, once */
  void *ctx;
} neap__explain_request;

/* Any thread; the engine outlives it. 0, NEAP_ELIMIT (more than NEAP_EXPLAIN_OBJECTS_MAX objects), NEAP_ENOMEM. */
int neap__explain_open(neap__engine *engine, const neap__explain_request *request, neap__explain **out,
                       neap_error *err);
/* Asks the tiers, each for at most 5 s, then calls done. Once. */
void neap__explain_start(neap__explain *explain);
/* After done; any thread. An array, one for each chunk: {"index", "hash", "objects": [...]}; the caller's. */
cJSON *neap__explain_json(const neap__explain *explain);
/* After done, or instead of start. NULL is nothing. */
void neap__explain_free(neap__explain *explain);
