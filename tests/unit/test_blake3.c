/* SPDX-License-Identifier: MIT
 *
 * BLAKE3. The file under test is included, so that both compressions are checked on every machine.
 *
 * Vectors: input byte i is i % 251, first 32 bytes of output. Lengths 0 .. 31744 but for 127, 128, 129 and 1056 are in
 * test_vectors.json of https://github.com/BLAKE3-team/BLAKE3; the others were computed with that project's own
 * implementation (PyPI package blake3). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/blake3.c"

static const struct {
  size_t bytes;
  const char *hash;
} vectors[] = {
    {0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
    {1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"},
    {63, "e9bc37a594daad83be9470df7f7b3798297c3d834ce80ba85d6e207627b7db7b"},
    {64, "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98"},
    {65, "de1e5fa0be70df6d2be8fffd0e99ceaa8eb6e8c93a63f2d8d1c30ecb6b263dee"},
    {127, "d81293fda863f008c09e92fc382a81f5a0b4a1251cba1634016a0f86a6bd640d"},
    {128, "f17e570564b26578c33bb7f44643f539624b05df1a76c81f30acd548c44b45ef"},
    {129, "683aaae9f3c5ba37eaaf072aed0f9e30bac0865137bae68b1fde4ca2aebdcb12"},
    {1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"},
    {1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"},
    {1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"},
    {1056, "f39a7f8fb475179c56b67e11bd2a5896f33110b3ed2f430163990e27abaa3c13"},
    {2048, "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a"},
    {2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030"},
    {3072, "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2"},
    {3073, "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3"},
    {4096, "015094013f57a5277b59d8475c0501042c0b642e531b0a1c8f58d2163229e969"},
    {4097, "9b4052b38f1c5fc8b1f9ff7ac7b27cd242487b3d890d15c96a1c25b8aa0fb995"},
    {5120, "9cadc15fed8b5d854562b26a9536d9707cadeda9b143978f319ab34230535833"},
    {6144, "3e2e5b74e048f3add6d21faab3f83aa44d3b2278afb83b80b3c35164ebeca205"},
    {7168, "61da957ec2499a95d6b8023e2b0e604ec7f6b50e80a9678b89d2628e99ada77a"},
    {8192, "aae792484c8efe4f19e2ca7d371d8c467ffb10748d8a5a1ae579948f718a2a63"},
    {8193, "bab6c09cb8ce8cf459261398d2e7aef35700bf488116ceb94a36d0f5f1b7bc3b"},
    {16384, "f875d6646de28985646f34ee13be9a576fd515f76b5b0a26bb324735041ddde4"},
    {31744, "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47"},
    {32800, "7c0e2304b0576b930687b01464cefe3aa21297eb9ae831b67ef0c0264ccb0036"},
    {65535, "de7d0f4c044c56f56e0c5f7ab247be9491c4520e8688f0f0d25406f46fdfbd03"},
    {65536, "68d647e619a930e7b1082f74f334b0c65a315725569bdc123f0ee11881717bfe"},
};

static uint8_t input[NEAP_BLAKE3_BYTES_MAX];
static unsigned seed;

static void assert_hash(const uint8_t hash[NEAP_HASH_BYTES], const char *expected) {
  char text[2 * NEAP_HASH_BYTES + 1];
  for (size_t i = 0; i < NEAP_HASH_BYTES; i++) snprintf(text + 2 * i, 3, "%02x", hash[i]);
  assert_string_equal(text, expected);
}

static void published_vectors_hash_as_published(void **state) {
  (void)state;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(vectors); i++) {
    uint8_t hash[NEAP_HASH_BYTES];
    neap__blake3(input, vectors[i].bytes, hash);
    assert_hash(hash, vectors[i].hash);
  }
}

static void pieces_of_any_size_hash_as_the_whole(void **state) {
  (void)state;
  const size_t largest[] = {3, 64, 65, 1024, 1500, 20000};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(vectors); i++) {
    for (size_t k = 0; k < NEAP_ARRAY_LEN(largest); k++) {
      neap__blake3_state pieces;
      uint8_t hash[NEAP_HASH_BYTES];
      neap__blake3_begin(&pieces);
      for (size_t done = 0; done < vectors[i].bytes;) {
        size_t take = (size_t)rand_r(&seed) % (largest[k] + 1);
        take = NEAP_MIN(take, vectors[i].bytes - done);
        neap__blake3_add(&pieces, input + done, take);
        done += take;
      }
      neap__blake3_end(&pieces, hash);
      assert_hash(hash, vectors[i].hash);
    }
  }
}

static void the_input_may_lie_at_any_address(void **state) {
  (void)state;
  uint8_t room[1056 + 16], hash[NEAP_HASH_BYTES];
  for (size_t shift = 0; shift < 16; shift++) {
    memcpy(room + shift, input, 1056);
    neap__blake3(room + shift, 1056, hash);
    assert_hash(hash, "f39a7f8fb475179c56b67e11bd2a5896f33110b3ed2f430163990e27abaa3c13");
  }
}

/* The compression as the paper's section 2.2 has it, word by word. */
static void quarter(uint32_t v[16], int a, int b, int c, int d, uint32_t x, uint32_t y) {
  v[a] += v[b] + x;
  v[d] = (v[d] ^ v[a]) >> 16 | (v[d] ^ v[a]) << 16;
  v[c] += v[d];
  v[b] = (v[b] ^ v[c]) >> 12 | (v[b] ^ v[c]) << 20;
  v[a] += v[b] + y;
  v[d] = (v[d] ^ v[a]) >> 8 | (v[d] ^ v[a]) << 24;
  v[c] += v[d];
  v[b] = (v[b] ^ v[c]) >> 7 | (v[b] ^ v[c]) << 25;
}

static void compress_by_the_paper(uint32_t value[8], const uint8_t *block, uint32_t bytes, uint32_t chunk,
                                  uint32_t flags) {
  static const uint8_t order[16] = {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8};
  uint32_t m[16], next[16], v[16] = {[12] = chunk, 0, bytes, flags};
  memcpy(m, block, sizeof(m));
  memcpy(v, value, 32);
  memcpy(v + 8, iv, 16);
  for (int round = 0; round < 7; round++) {
    for (int i = 0; i < 4; i++) quarter(v, i, 4 + i, 8 + i, 12 + i, m[2 * i], m[2 * i + 1]);
    for (int i = 0; i < 4; i++)
      quarter(v, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[8 + 2 * i], m[9 + 2 * i]);
    for (int i = 0; i < 16; i++) next[i] = m[order[i]];
    memcpy(m, next, sizeof(m));
  }
  for (int i = 0; i < 8; i++) value[i] = v[i] ^ v[8 + i];
}

static void every_compression_computes_what_the_paper_says(void **state) {
  (void)state;
  for (int round = 0; round < 2000; round++) {
    uint8_t block[BLOCK_BYTES];
    uint32_t start[8], expected[8], plain[8];
    for (size_t i = 0; i < sizeof(block); i++) block[i] = (uint8_t)(rand_r(&seed) >> 8);
    for (size_t i = 0; i < 8; i++) start[i] = (uint32_t)rand_r(&seed) * 2654435761u;
    uint32_t bytes = (uint32_t)rand_r(&seed) % 65, chunk = (uint32_t)rand_r(&seed) % 64, flags = (uint32_t)round % 16;
    memcpy(expected, start, sizeof(start));
    memcpy(plain, start, sizeof(start));
    compress_by_the_paper(expected, block, bytes, chunk, flags);
    compress_plain(plain, block, bytes, chunk, flags);
    assert_memory_equal(plain, expected, sizeof(expected));
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.1")) {
      compress_sse41(start, block, bytes, chunk, flags);
      assert_memory_equal(start, expected, sizeof(expected));
    }
#endif
  }
}

int main(void) {
  const char *given = getenv("NEAP_TEST_SEED");
  seed = given ? (unsigned)strtoul(given, NULL, 0) : 1;
  printf("seed %u (NEAP_TEST_SEED)\n", seed);
  for (size_t i = 0; i < sizeof(input); i++) input[i] = (uint8_t)(i % 251);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(published_vectors_hash_as_published),
      cmocka_unit_test(pieces_of_any_size_hash_as_the_whole),
      cmocka_unit_test(the_input_may_lie_at_any_address),
      cmocka_unit_test(every_compression_computes_what_the_paper_says),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
