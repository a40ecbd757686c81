/* SPDX-License-Identifier: MIT
 *
 * policy/lineage.h - which chunk continues which: dense numbers for chunk hashes, and each chunk's parent.
 *
 * A chunk's hash covers everything before it, so its parent never changes. The arrays are read by index; they move when
 * a chunk is added and there is no room left. One thread at a time; not here: what is resident. */
#pragma once
#include "base/base.h"

#define NEAP__NO_CHUNK UINT32_MAX

typedef struct neap__lineage {
  uint32_t count;
  uint64_t *hash;                /* [count] */
  uint32_t *parent;              /* [count] number of the chunk before, NEAP__NO_CHUNK of the first one of a prompt */
  uint32_t *bucket, bucket_mask; /* number + 1, by hash; 0 is empty */
  uint32_t room;
  uint32_t removed; /* the last number that was removed + 1; its parent is the one before; 0: none */
} neap__lineage;

/* room: how many chunks to make room for now. 0 or NEAP_ENOMEM. */
int neap__lineage_open(neap__lineage *lineage, uint32_t room);
void neap__lineage_close(neap__lineage *lineage);

/* The number of the chunk with that hash, added with that parent if it is new. 0, NEAP_ENOMEM, or NEAP_ELIMIT (more
 * than UINT32_MAX - 1 chunks). */
int neap__lineage_add(neap__lineage *lineage, uint64_t hash, uint32_t parent, uint32_t *number);

/* NEAP__NO_CHUNK if it is not there. */
uint32_t neap__lineage_find(const neap__lineage *lineage, uint64_t hash);

/* Forgets a chunk that nothing continues any more; the next one to be added gets its number. */
void neap__lineage_remove(neap__lineage *lineage, uint32_t number);
