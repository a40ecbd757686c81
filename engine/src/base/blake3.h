/* SPDX-License-Identifier: MIT
 *
 * base/blake3.h - BLAKE3 of an input that comes in pieces, for callers that would otherwise have to join it first.
 * neap__blake3 in base/base.h is the same in one call. A state belongs to one thread at a time and needs no closing. */
#pragma once
#include "base/base.h"

#define NEAP_BLAKE3_BYTES_MAX 65536u
#define NEAP_BLAKE3_CHUNK_BYTES 1024u /* pieces of this size are the fastest: nothing is copied */

typedef struct neap__blake3_state {
  uint32_t value[8];   /* chaining value of the chunk being read */
  uint32_t tree[6][8]; /* of complete subtrees, largest first; as many as `chunks` has bits set */
  uint32_t chunks;     /* complete chunks before this one */
  uint32_t blocks;     /* blocks of this chunk in `value` */
  uint32_t held;       /* bytes in `block`, which may turn out to be the last */
  uint8_t block[64];
} neap__blake3_state;

void neap__blake3_begin(neap__blake3_state *state);
/* All pieces together must be at most NEAP_BLAKE3_BYTES_MAX bytes (NEAP_ASSERTed). */
void neap__blake3_add(neap__blake3_state *state, const void *data, size_t bytes);
/* The hash of everything added; the state is used up. */
void neap__blake3_end(neap__blake3_state *state, uint8_t out[NEAP_HASH_BYTES]);
