/* SPDX-License-Identifier: MIT
 *
 * chunk/tokens.h - tokens to chunk hashes: H[i] = BLAKE3(H[i-1] || tokens of chunk i as big-endian uint32), with
 * H[-1] = BLAKE3(twelve zero bytes), as LMCache's "blake3" hasher computes it. Only complete chunks have a hash. */
#pragma once
#include "base/base.h"

/* tokens per chunk: at least 1, at most this (so that one chunk's input stays below BLAKE3's bound here). */
#define NEAP_CHUNK_TOKENS_MAX 8192u

/* The hash before the first chunk. */
const uint8_t *neap__chain_seed(void);

/* Hashes `chunks` complete chunks of chunk_tokens tokens each, continuing after prev (the seed, or the hash of the
 * chunk before); out receives one hash per chunk. No allocation. Any thread. */
void neap__chain(const uint8_t prev[NEAP_HASH_BYTES], const uint32_t *tokens, uint32_t chunk_tokens, uint32_t chunks,
                 uint8_t (*out)[NEAP_HASH_BYTES]);

/* The hash of chunk `i` counting from `hashes`: i = 0 is the first chunk, i = -1 the seed. */
const uint8_t *neap__chain_at(uint8_t (*hashes)[NEAP_HASH_BYTES], int64_t i);
