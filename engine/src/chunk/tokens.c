/* SPDX-License-Identifier: MIT
 *
 * chunk/tokens.c - chained chunk hashes. Any thread; no state but the seed, computed once. Tokens are turned to
 * big-endian in pieces that are BLAKE3's own chunks, so the stack need is small and the hash copies nothing. */
#include "chunk/tokens.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <string.h>

#include "base/blake3.h"

_Static_assert(NEAP_HASH_BYTES + NEAP_CHUNK_TOKENS_MAX * sizeof(uint32_t) <= NEAP_BLAKE3_BYTES_MAX,
               "the largest chunk fits the hash");

static pthread_once_t seed_once = PTHREAD_ONCE_INIT;
static uint8_t seed[NEAP_HASH_BYTES];

static void seed_compute(void) {
  const uint8_t zeros[12] = {0};
  neap__blake3(zeros, sizeof(zeros), seed);
}

const uint8_t *neap__chain_seed(void) {
  pthread_once(&seed_once, seed_compute);
  return seed;
}

static void put_tokens(uint8_t *out, const uint32_t *tokens, size_t count) {
  for (size_t i = 0; i < count; i++) {
    uint32_t big_endian = htonl(tokens[i]);
    memcpy(out + i * sizeof(big_endian), &big_endian, sizeof(big_endian));
  }
}

static void chunk_hash(const uint8_t prev[NEAP_HASH_BYTES], const uint32_t *tokens, size_t count,
                       uint8_t out[NEAP_HASH_BYTES]) {
  uint8_t piece[NEAP_BLAKE3_CHUNK_BYTES];
  size_t used = NEAP_HASH_BYTES;
  neap__blake3_state state;

  neap__blake3_begin(&state);
  memcpy(piece, prev, NEAP_HASH_BYTES);
  while (count > 0) {
    size_t take = NEAP_MIN(count, (sizeof(piece) - used) / sizeof(*tokens));
    put_tokens(piece + used, tokens, take);
    neap__blake3_add(&state, piece, used + take * sizeof(*tokens));
    used = 0;
    tokens += take;
    count -= take;
  }
  neap__blake3_end(&state, out);
}

void neap__chain(const uint8_t prev[NEAP_HASH_BYTES], const uint32_t *tokens, uint32_t chunk_tokens, uint32_t chunks,
                 uint8_t (*out)[NEAP_HASH_BYTES]) {
  NEAP_ASSERT(chunk_tokens >= 1 && chunk_tokens <= NEAP_CHUNK_TOKENS_MAX);

  for (uint32_t i = 0; i < chunks; i++) {
    chunk_hash(prev, tokens, chunk_tokens, out[i]);
    prev = out[i];
    tokens += chunk_tokens;
  }
}

const uint8_t *neap__chain_at(uint8_t (*hashes)[NEAP_HASH_BYTES], int64_t i) {
  return i < 0 ? neap__chain_seed() : hashes[i];
}
