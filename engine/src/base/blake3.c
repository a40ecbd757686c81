/* SPDX-License-Identifier: MIT
 *
 * base/blake3.c - BLAKE3, unkeyed, 32 bytes of output (O'Connor, Aumasson, Neves, Wilcox-O'Hearn: BLAKE3, one function,
 * fast everywhere; 2020). Section numbers below are that paper's. Any thread; no state of its own.
 *
 * Made for many small inputs, each of which needs the hash before it: what counts is the latency of one compression,
 * so a compression works on the four rows of its state as vectors, and inputs are not spread over lanes. One body in
 * the compiler's vector types is compiled for the plain machine and for SSE4.1, chosen at run time. */
#include "base/blake3.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words are loaded as they lie in memory");

/* Domain flags (2.1) */
#define CHUNK_START 1u
#define CHUNK_END 2u
#define PARENT 4u
#define ROOT 8u

#define BLOCK_BYTES 64u
#define CHUNK_BLOCKS (NEAP_BLAKE3_CHUNK_BYTES / BLOCK_BYTES)

static const uint32_t iv[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* --- compression (2.2) ------------------------------------------------------------------------------------------- */

typedef uint32_t row __attribute__((vector_size(16)));
typedef uint8_t row_bytes __attribute__((vector_size(16)));

#define INLINE static inline __attribute__((always_inline))
#define PICK __builtin_shufflevector

INLINE row load_row(const void *p) {
  row r;
  memcpy(&r, p, sizeof(r));
  return r;
}

INLINE row rotate(row r, int bits) { return r >> bits | r << (32 - bits); }

/* Rotations by whole bytes are one byte shuffle where there is such an instruction (SSSE3). */
INLINE row rotate16(row r, bool shuffle) {
  if (!shuffle) return rotate(r, 16);
  row_bytes b = (row_bytes)r;
  return (row)PICK(b, b, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
}

INLINE row rotate8(row r, bool shuffle) {
  if (!shuffle) return rotate(r, 8);
  row_bytes b = (row_bytes)r;
  return (row)PICK(b, b, 1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12);
}

/* The quarter-round G on four columns at once. `a + x` comes first: it does not have to wait for b. */
INLINE void mix(row s[4], row x, row y, bool shuffle) {
  s[0] = (s[0] + x) + s[1];
  s[3] = rotate16(s[3] ^ s[0], shuffle);
  s[2] += s[3];
  s[1] = rotate(s[1] ^ s[2], 12);
  s[0] = (s[0] + y) + s[1];
  s[3] = rotate8(s[3] ^ s[0], shuffle);
  s[2] += s[3];
  s[1] = rotate(s[1] ^ s[2], 7);
}

/* A block is held in the order in which the rows use it. With w the 16 words of this round's schedule:
 *   m[0] = w0 w2 w4 w6     m[1] = w1 w3 w5 w7       the x and y of the columns
 *   m[2] = w14 w8 w10 w12  m[3] = w15 w9 w11 w13    the x and y of the diagonals
 * Diagonals become columns by turning rows 0, 2 and 3 and leaving row 1, which is the last one ready; so they begin
 * with w14. */
INLINE void load_block(row m[4], const uint8_t block[BLOCK_BYTES]) {
  row w0 = load_row(block), w4 = load_row(block + 16), w8 = load_row(block + 32), w12 = load_row(block + 48);
  m[0] = PICK(w0, w4, 0, 2, 4, 6);
  m[1] = PICK(w0, w4, 1, 3, 5, 7);
  m[2] = PICK(w8, w12, 6, 0, 2, 4);
  m[3] = PICK(w8, w12, 7, 1, 3, 5);
}

/* The schedule of the next round: w'[i] = w[(2 6 3 10 7 0 4 13 1 11 12 5 9 14 15 8)[i]]. */
INLINE void permute(row m[4]) {
  row w10_w13 = PICK(m[2], m[3], 0, 1, 2, 7);
  row w1_w12 = PICK(m[1], m[2], 0, 1, 2, 7);
  row w11_w5 = PICK(m[3], m[1], 2, 6, 3, 7);
  row m0 = PICK(m[0], m[1], 1, 5, 7, 2);    /* w2 w3 w7 w4 */
  row m1 = PICK(m[0], w10_w13, 3, 6, 0, 7); /* w6 w10 w0 w13 */
  row m2 = PICK(m[3], w1_w12, 0, 4, 7, 1);  /* w15 w1 w12 w9 */
  row m3 = PICK(m[2], w11_w5, 1, 4, 5, 0);  /* w8 w11 w5 w14 */
  m[0] = m0;
  m[1] = m1;
  m[2] = m2;
  m[3] = m3;
}

INLINE void compress_rows(uint32_t value[8], const uint8_t *block, uint32_t bytes, uint32_t chunk, uint32_t flags,
                          bool shuffle) {
  row s[4] = {load_row(value), load_row(value + 4), load_row(iv), {chunk, 0, bytes, flags}};
  row m[4];

  load_block(m, block);
  for (int round = 0; round < 7; round++) {
    if (round > 0) permute(m);
    mix(s, m[0], m[1], shuffle);
    s[0] = PICK(s[0], s[0], 3, 0, 1, 2);
    s[2] = PICK(s[2], s[2], 1, 2, 3, 0);
    s[3] = PICK(s[3], s[3], 2, 3, 0, 1);
    mix(s, m[2], m[3], shuffle);
    s[0] = PICK(s[0], s[0], 1, 2, 3, 0);
    s[2] = PICK(s[2], s[2], 3, 0, 1, 2);
    s[3] = PICK(s[3], s[3], 2, 3, 0, 1);
  }
  s[0] ^= s[2];
  s[1] ^= s[3];
  memcpy(value, &s[0], sizeof(s[0]));
  memcpy(value + 4, &s[1], sizeof(s[1]));
}

static void compress_plain(uint32_t value[8], const uint8_t *block, uint32_t bytes, uint32_t chunk, uint32_t flags) {
  compress_rows(value, block, bytes, chunk, flags, false);
}

#if defined(__x86_64__)
__attribute__((target("sse4.1"))) static void compress_sse41(uint32_t value[8], const uint8_t *block, uint32_t bytes,
                                                             uint32_t chunk, uint32_t flags) {
  compress_rows(value, block, bytes, chunk, flags, true);
}
#endif

/* Replaces value by the first 8 words of the compression's output: the next chaining value, or, under ROOT, the hash.
 * No output beyond 32 bytes is needed, so the counter is the chunk's number only and fits 32 bits. */
static void compress(uint32_t value[8], const uint8_t *block, uint32_t bytes, uint32_t chunk, uint32_t flags) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.1")) return compress_sse41(value, block, bytes, chunk, flags);
#endif
  compress_plain(value, block, bytes, chunk, flags);
}

/* --- tree (2.4, 5.1.2) ------------------------------------------------------------------------------------------- */

/* Replaces right by the chaining value of the parent of left and right. */
static void join(const uint32_t left[8], uint32_t right[8], uint32_t flags) {
  uint8_t block[BLOCK_BYTES];
  memcpy(block, left, 32);
  memcpy(block + 32, right, 32);
  memcpy(right, iv, sizeof(iv));
  compress(right, block, BLOCK_BYTES, 0, PARENT | flags);
}

/* A complete chunk that is not the last one closes all subtrees that end with it. */
static void chunk_add(neap__blake3_state *state) {
  int top = __builtin_popcount(state->chunks);

  state->chunks++;
  for (uint32_t n = state->chunks; (n & 1) == 0; n >>= 1) join(state->tree[--top], state->value, 0);
  memcpy(state->tree[top], state->value, sizeof(state->value));
  memcpy(state->value, iv, sizeof(iv));
  state->blocks = 0;
}

static uint32_t start_flag(const neap__blake3_state *state) { return state->blocks == 0 ? CHUNK_START : 0; }

/* A block that is not the last one. */
static void block_add(neap__blake3_state *state, const uint8_t *block) {
  uint32_t flags = start_flag(state) | (state->blocks == CHUNK_BLOCKS - 1 ? CHUNK_END : 0);

  compress(state->value, block, BLOCK_BYTES, state->chunks, flags);
  if (++state->blocks == CHUNK_BLOCKS) chunk_add(state);
}

void neap__blake3_begin(neap__blake3_state *state) {
  memcpy(state->value, iv, sizeof(iv));
  state->chunks = state->blocks = state->held = 0;
}

void neap__blake3_add(neap__blake3_state *state, const void *data, size_t bytes) {
  const uint8_t *p = data;
  NEAP_ASSERT(bytes <= NEAP_BLAKE3_BYTES_MAX - state->chunks * NEAP_BLAKE3_CHUNK_BYTES - state->blocks * BLOCK_BYTES -
                           state->held);

  while (bytes > 0) {
    if (state->held == BLOCK_BYTES) {
      block_add(state, state->block);
      state->held = 0;
    }
    for (; state->held == 0 && bytes > BLOCK_BYTES; bytes -= BLOCK_BYTES, p += BLOCK_BYTES) block_add(state, p);
    size_t take = NEAP_MIN(bytes, BLOCK_BYTES - state->held);
    memcpy(state->block + state->held, p, take);
    state->held += (uint32_t)take;
    bytes -= take;
    p += take;
  }
}

void neap__blake3_end(neap__blake3_state *state, uint8_t out[NEAP_HASH_BYTES]) {
  uint32_t root = state->chunks == 0 ? ROOT : 0;

  memset(state->block + state->held, 0, BLOCK_BYTES - state->held);
  compress(state->value, state->block, state->held, state->chunks, start_flag(state) | CHUNK_END | root);
  for (int top = __builtin_popcount(state->chunks) - 1; top >= 0; top--)
    join(state->tree[top], state->value, top == 0 ? ROOT : 0);
  memcpy(out, state->value, NEAP_HASH_BYTES);
}

void neap__blake3(const void *data, size_t bytes, uint8_t out[NEAP_HASH_BYTES]) {
  neap__blake3_state state;

  neap__blake3_begin(&state);
  neap__blake3_add(&state, data, bytes);
  neap__blake3_end(&state, out);
}
