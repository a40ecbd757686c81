/* SPDX-License-Identifier: MIT
 *
 * base/hash.c - CRC-32C of payloads and the 64-bit hash of tables. Any thread; the only state is a lookup table
 * built once. BLAKE3, which gives objects their identity, is in blake3.c. */
#include <pthread.h>
#include <string.h>

#include "base/base.h"

static uint64_t load64(const uint8_t *p) {
  uint64_t word;
  memcpy(&word, p, sizeof(word));
  return word;
}

/* --- CRC-32C, portable ----------------------------------------------------------------------------------------- */

#define CRC_POLY 0x82f63b78u

static pthread_once_t crc_once = PTHREAD_ONCE_INIT;
static uint32_t crc_table[8][256]; /* [k][b]: the effect of byte b with k bytes behind it */

static void crc_table_build(void) {
  for (uint32_t b = 0; b < 256; b++) {
    uint32_t crc = b;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (CRC_POLY & -(crc & 1));
    crc_table[0][b] = crc;
  }
  for (uint32_t b = 0; b < 256; b++)
    for (int k = 1; k < 8; k++) crc_table[k][b] = (crc_table[k - 1][b] >> 8) ^ crc_table[0][crc_table[k - 1][b] & 0xff];
}

/* Eight bytes per step ("slicing-by-8", Kounavis and Berry, 2005). */
static uint32_t crc_portable(uint32_t crc, const uint8_t *p, size_t bytes) {
  pthread_once(&crc_once, crc_table_build);

  for (; bytes >= 8; bytes -= 8, p += 8) {
    uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
    crc = crc_table[7][low & 0xff] ^ crc_table[6][low >> 8 & 0xff] ^ crc_table[5][low >> 16 & 0xff] ^
          crc_table[4][low >> 24] ^ crc_table[3][p[4]] ^ crc_table[2][p[5]] ^ crc_table[1][p[6]] ^ crc_table[0][p[7]];
  }
  for (; bytes > 0; bytes--, p++) crc = (crc >> 8) ^ crc_table[0][(crc ^ *p) & 0xff];
  return crc;
}

/* --- CRC-32C, SSE4.2 -------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
#include <nmmintrin.h>

/* The instruction takes three cycles but a new one can start in each, so a long buffer is read as three streams.
 * Their remainders are joined by multiplying with x^(8 * bytes behind) modulo the polynomial. */
#define STREAM_BYTES 8192u
#define SHIFT_ONE_STREAM 0x28461564u  /* x^(8 * STREAM_BYTES) mod P, bit-reflected */
#define SHIFT_TWO_STREAMS 0xbf455269u /* x^(16 * STREAM_BYTES) mod P, bit-reflected */

/* a * b modulo P over GF(2), both bit-reflected: bit 31 is x^0. */
static uint32_t crc_multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (int bit = 31; bit >= 0; bit--) {
    product ^= b & -(a >> bit & 1);
    b = (b >> 1) ^ (CRC_POLY & -(b & 1));
  }
  return product;
}

__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t crc, const uint8_t *p, size_t bytes) {
  for (; bytes >= 3 * STREAM_BYTES; bytes -= 3 * STREAM_BYTES, p += 3 * STREAM_BYTES) {
    uint64_t first = crc, second = 0, third = 0;
    for (size_t i = 0; i < STREAM_BYTES; i += 8) {
      first = _mm_crc32_u64(first, load64(p + i));
      second = _mm_crc32_u64(second, load64(p + STREAM_BYTES + i));
      third = _mm_crc32_u64(third, load64(p + 2 * STREAM_BYTES + i));
    }
    crc = crc_multiply((uint32_t)first, SHIFT_TWO_STREAMS) ^ crc_multiply((uint32_t)second, SHIFT_ONE_STREAM) ^
          (uint32_t)third;
  }

  uint64_t wide = crc;
  for (; bytes >= 8; bytes -= 8, p += 8) wide = _mm_crc32_u64(wide, load64(p));
  crc = (uint32_t)wide;
  for (; bytes > 0; bytes--, p++) crc = _mm_crc32_u8(crc, *p);
  return crc;
}
#endif

uint32_t neap__crc32c(uint32_t seed, const void *data, size_t bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return ~crc_sse42(~seed, data, bytes);
#endif
  return ~crc_portable(~seed, data, bytes);
}

/* --- table hash -------------------------------------------------------------------------------------------------- */

/* Finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). */
static uint64_t mix64(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

uint64_t neap__hash64(const void *data, size_t bytes, uint64_t seed) {
  const uint64_t golden = 0x9e3779b97f4a7c15u;
  const uint8_t *p = data;
  uint64_t hash = mix64(seed + golden * (bytes + 1)); /* the length tells "a" from "a\0" */

  for (; bytes >= 8; bytes -= 8, p += 8) hash = mix64((hash ^ load64(p)) + golden);
  if (bytes > 0) {
    uint64_t tail = 0;
    memcpy(&tail, p, bytes);
    hash = mix64((hash ^ tail) + golden);
  }
  return hash;
}
