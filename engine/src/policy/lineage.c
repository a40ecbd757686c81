/* SPDX-License-Identifier: MIT
 *
 * policy/lineage.c - see lineage.h. Growing arrays, and open addressing over them. */
#include "policy/lineage.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_MIN 1024u

static uint32_t bucket_of(const neap__lineage *l, uint64_t hash) {
  return (uint32_t)((hash * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & l->bucket_mask; /* Fibonacci hashing (Knuth) */
}

/* The bucket where the hash is, or the empty one where it would be. At most half of them are taken. */
static uint32_t probe(const neap__lineage *l, uint64_t hash) {
  uint32_t at = bucket_of(l, hash);
  while (l->bucket[at] != 0 && l->hash[l->bucket[at] - 1] != hash) at = (at + 1) & l->bucket_mask;
  return at;
}

static int rehash(neap__lineage *l, uint32_t room) {
  uint64_t buckets = 2 * ROOM_MIN;
  while (buckets < 2 * (uint64_t)room) buckets *= 2;
  uint32_t *fresh = buckets <= UINT32_MAX ? calloc(buckets, sizeof(*fresh)) : NULL;
  if (fresh == NULL) return NEAP_ENOMEM;
  free(l->bucket);
  l->bucket = fresh;
  l->bucket_mask = (uint32_t)(buckets - 1);
  for (uint32_t i = 0; i < l->count; i++) l->bucket[probe(l, l->hash[i])] = i + 1;
  return 0;
}

static int grow(neap__lineage *l, uint32_t room) {
  uint64_t *hash = realloc(l->hash, (size_t)room * sizeof(*hash));
  if (hash != NULL) l->hash = hash;
  uint32_t *parent = realloc(l->parent, (size_t)room * sizeof(*parent));
  if (parent != NULL) l->parent = parent;
  if (hash == NULL || parent == NULL || rehash(l, room) != 0) return NEAP_ENOMEM;
  l->room = room;
  return 0;
}

int neap__lineage_open(neap__lineage *l, uint32_t room) {
  *l = (neap__lineage){0};
  int rc = grow(l, NEAP_MAX(room, ROOM_MIN));
  if (rc != 0) neap__lineage_close(l);
  return rc;
}

void neap__lineage_close(neap__lineage *l) {
  free(l->hash);
  free(l->parent);
  free(l->bucket);
  *l = (neap__lineage){0};
}

int neap__lineage_add(neap__lineage *l, uint64_t hash, uint32_t parent, uint32_t *number) {
  uint32_t at = probe(l, hash);
  if (l->bucket[at] == 0) {
    if (l->count == NEAP__NO_CHUNK - 1 && !l->removed) return NEAP_ELIMIT;
    if (l->count == l->room && !l->removed) {
      uint32_t room = l->room < NEAP__NO_CHUNK / 2 ? l->room * 2 : NEAP__NO_CHUNK - 1;
      int rc = grow(l, room);
      if (rc != 0) return rc;
      at = probe(l, hash);
    }
    uint32_t fresh = l->removed ? l->removed - 1 : l->count++;
    if (l->removed) l->removed = l->parent[fresh];
    l->hash[fresh] = hash;
    l->parent[fresh] = parent;
    l->bucket[at] = fresh + 1;
  }
  *number = l->bucket[at] - 1;
  return 0;
}

uint32_t neap__lineage_find(const neap__lineage *l, uint64_t hash) { return l->bucket[probe(l, hash)] - 1; }

/* What was put behind an occupied bucket moves forward into the gap (Knuth, TAOCP 3, 6.4, algorithm R). */
void neap__lineage_remove(neap__lineage *l, uint32_t number) {
  uint32_t gap = probe(l, l->hash[number]);
  for (uint32_t at = (gap + 1) & l->bucket_mask; l->bucket[at] != 0; at = (at + 1) & l->bucket_mask) {
    uint32_t home = bucket_of(l, l->hash[l->bucket[at] - 1]);
    if (((at - home) & l->bucket_mask) < ((at - gap) & l->bucket_mask)) continue;
    l->bucket[gap] = l->bucket[at];
    gap = at;
  }
  l->bucket[gap] = 0;
  l->parent[number] = l->removed;
  l->removed = number + 1;
}
