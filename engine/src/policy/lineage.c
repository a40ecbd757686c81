/* SPDX-License-Identifier: MIT
 *
 * policy/lineage.c - see lineage.h. Open addressing with linear steps, at most half full; a bucket holds number + 1. */
#include "policy/lineage.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_LEAST 64u
#define ROOM_MAX (UINT32_MAX - 1u)

/* Hashes may be small consecutive ids: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) spreads them.
 */
static uint64_t spread(uint64_t hash) {
  hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9u;
  hash = (hash ^ hash >> 27) * 0x94d049bb133111ebu;
  return hash ^ hash >> 31;
}

/* The bucket of that hash, or the empty one where it belongs. */
static uint32_t *bucket_of(const neap__lineage *lineage, uint64_t hash) {
  uint32_t at = (uint32_t)spread(hash) & lineage->bucket_mask;
  while (lineage->bucket[at] && lineage->hash[lineage->bucket[at] - 1] != hash) at = (at + 1) & lineage->bucket_mask;
  return &lineage->bucket[at];
}

static int grow(neap__lineage *lineage, uint64_t room) {
  uint64_t buckets = 2 * ROOM_LEAST;
  while (buckets < 2 * room && buckets < 1ull << 32) buckets *= 2;
  uint32_t *bucket = calloc(buckets, sizeof(*bucket));
  uint64_t *hash = realloc(lineage->hash, room * sizeof(*hash));
  if (hash) lineage->hash = hash;
  uint32_t *parent = realloc(lineage->parent, room * sizeof(*parent));
  if (parent) lineage->parent = parent;
  if (!bucket || !hash || !parent) {
    free(bucket);
    return NEAP_ENOMEM;
  }
  free(lineage->bucket);
  lineage->bucket = bucket;
  lineage->bucket_mask = (uint32_t)(buckets - 1);
  lineage->room = (uint32_t)room;
  for (uint32_t i = 0; i < lineage->count; i++) *bucket_of(lineage, hash[i]) = i + 1;
  return 0;
}

int neap__lineage_open(neap__lineage *lineage, uint32_t room) {
  memset(lineage, 0, sizeof(*lineage));
  int rc = grow(lineage, NEAP_MIN(NEAP_MAX(room, ROOM_LEAST), ROOM_MAX));
  if (rc != 0) neap__lineage_close(lineage);
  return rc;
}

void neap__lineage_close(neap__lineage *lineage) {
  free(lineage->hash);
  free(lineage->parent);
  free(lineage->bucket);
  memset(lineage, 0, sizeof(*lineage));
}

int neap__lineage_add(neap__lineage *lineage, uint64_t hash, uint32_t parent, uint32_t *number) {
  uint32_t *bucket = bucket_of(lineage, hash);
  if (*bucket) {
    *number = *bucket - 1;
    return 0;
  }
  if (lineage->count == lineage->room) {
    if (lineage->room == ROOM_MAX) return NEAP_ELIMIT;
    int rc = grow(lineage, NEAP_MIN(2ull * lineage->room, ROOM_MAX));
    if (rc != 0) return rc;
    bucket = bucket_of(lineage, hash);
  }
  *number = lineage->count++;
  lineage->hash[*number] = hash;
  lineage->parent[*number] = parent;
  *bucket = lineage->count;
  return 0;
}

uint32_t neap__lineage_find(const neap__lineage *lineage, uint64_t hash) {
  uint32_t bucket = *bucket_of(lineage, hash);
  return bucket ? bucket - 1 : NEAP__NO_CHUNK;
}
