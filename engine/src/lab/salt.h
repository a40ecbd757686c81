/* SPDX-License-Identifier: MIT
 *
 * lab/salt.h - names of chunks that say nothing about the prompts: a keyed hash, so that a recording can be shared.
 * Without the key nobody can tell whether a prompt that they guess is in it. */
#pragma once
#include "base/base.h"

typedef struct neap__salt {
  uint64_t key[2]; /* random, of this process */
} neap__salt;

/* SipHash-2-4 (Aumasson, Bernstein, 2012) of `count` words. */
static inline uint64_t neap__salted(const neap__salt *salt, const uint64_t *words, uint32_t count) {
#define SIP_ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))
#define SIP_ROUND                                                                                                     \
  (v0 += v1, v1 = SIP_ROTATE(v1, 13) ^ v0, v0 = SIP_ROTATE(v0, 32), v2 += v3, v3 = SIP_ROTATE(v3, 16) ^ v2, v0 += v3, \
   v3 = SIP_ROTATE(v3, 21) ^ v0, v2 += v1, v1 = SIP_ROTATE(v1, 17) ^ v2, v2 = SIP_ROTATE(v2, 32))
  uint64_t v0 = salt->key[0] ^ UINT64_C(0x736f6d6570736575), v1 = salt->key[1] ^ UINT64_C(0x646f72616e646f6d);
  uint64_t v2 = salt->key[0] ^ UINT64_C(0x6c7967656e657261), v3 = salt->key[1] ^ UINT64_C(0x7465646279746573);
  for (uint32_t i = 0; i <= count; i++) {
    uint64_t m = i < count ? words[i] : (uint64_t)count * 8 << 56; /* the last block holds the length */
    v3 ^= m;
    SIP_ROUND, SIP_ROUND;
    v0 ^= m;
  }
  v2 ^= 0xff;
  SIP_ROUND, SIP_ROUND, SIP_ROUND, SIP_ROUND;
  return v0 ^ v1 ^ v2 ^ v3;
#undef SIP_ROUND
#undef SIP_ROTATE
}
