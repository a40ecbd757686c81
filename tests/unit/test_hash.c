/* SPDX-License-Identifier: MIT
 *
 * CRC-32C and the table hash. The file under test is included, so that the portable path is checked too on machines
 * that would never take it. Vectors: RFC 3720, B.4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash.c"

/* The definition, one bit at a time. */
static uint32_t crc_by_bits(uint32_t seed, const uint8_t *p, size_t bytes) {
  uint32_t crc = ~seed;
  for (size_t i = 0; i < bytes; i++) {
    crc ^= p[i];
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
  }
  return ~crc;
}

static uint64_t rng_state;

static uint64_t rng(void) {
  rng_state += 0x9e3779b97f4a7c15u;
  return mix64(rng_state);
}

static void fill(uint8_t *p, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) p[i] = (uint8_t)rng();
}

static void crc_gives_the_published_values(void **state) {
  (void)state;
  uint8_t data[32];
  memset(data, 0, sizeof(data));
  assert_int_equal(neap__crc32c(0, data, 32), 0x8a9136aau);
  memset(data, 0xff, sizeof(data));
  assert_int_equal(neap__crc32c(0, data, 32), 0x62a8ab43u);
  for (uint8_t i = 0; i < 32; i++) data[i] = i;
  assert_int_equal(neap__crc32c(0, data, 32), 0x46dd794eu);
  for (uint8_t i = 0; i < 32; i++) data[i] = (uint8_t)(31 - i);
  assert_int_equal(neap__crc32c(0, data, 32), 0x113fdb5cu);
  assert_int_equal(neap__crc32c(0, "123456789", 9), 0xe3069283u);
  assert_int_equal(neap__crc32c(0, NULL, 0), 0);
}

static void both_crc_paths_match_the_definition_at_every_length_and_alignment(void **state) {
  (void)state;
  uint8_t data[300];
  fill(data, sizeof(data));
  for (size_t bytes = 0; bytes <= 290; bytes++) {
    const uint8_t *p = data + bytes % 9;
    uint32_t expected = crc_by_bits((uint32_t)bytes, p, bytes);
    assert_int_equal(neap__crc32c((uint32_t)bytes, p, bytes), expected);
    assert_int_equal(~crc_portable(~(uint32_t)bytes, p, bytes), expected);
  }
}

static void both_crc_paths_match_the_definition_on_large_buffers(void **state) {
  (void)state;
  const size_t sizes[] = {24575, 24576, 24577, 49152, 65536, 100003};
  uint8_t *data = malloc(100003);
  assert_non_null(data);
  fill(data, 100003);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(sizes); i++) {
    uint32_t expected = crc_by_bits(0x12345678u, data, sizes[i]);
    assert_int_equal(neap__crc32c(0x12345678u, data, sizes[i]), expected);
    assert_int_equal(~crc_portable(~0x12345678u, data, sizes[i]), expected);
  }
  free(data);
}

static void crc_continues_from_its_seed(void **state) {
  (void)state;
  enum { BYTES = 60000 };
  uint8_t *data = malloc(BYTES);
  assert_non_null(data);
  fill(data, BYTES);
  uint32_t whole = neap__crc32c(0, data, BYTES);
  for (int i = 0; i < 50; i++) {
    size_t cut = (size_t)(rng() % BYTES);
    uint32_t first = neap__crc32c(0, data, cut);
    assert_int_equal(neap__crc32c(first, data + cut, BYTES - cut), whole);
  }
  free(data);
}

static void table_hash_depends_on_every_bit_length_and_seed(void **state) {
  (void)state;
  uint8_t data[48];
  fill(data, sizeof(data));
  for (size_t bytes = 0; bytes <= sizeof(data); bytes++) {
    uint64_t hash = neap__hash64(data, bytes, 1);
    assert_int_equal(hash, neap__hash64(data, bytes, 1));
    assert_int_not_equal(hash, neap__hash64(data, bytes, 2));
    if (bytes > 0) assert_int_not_equal(hash, neap__hash64(data, bytes - 1, 1));
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
      data[bit / 8] ^= (uint8_t)(1u << bit % 8);
      uint64_t other = neap__hash64(data, bytes, 1);
      data[bit / 8] ^= (uint8_t)(1u << bit % 8);
      int changed = __builtin_popcountll(hash ^ other);
      assert_in_range(changed, 8, 56); /* 32 of 64 expected; outside is a one in 10^9 case */
    }
  }
  assert_int_not_equal(neap__hash64("a", 1, 0), neap__hash64("a\0", 2, 0));
}

static void table_hash_spreads_counters_over_buckets(void **state) {
  (void)state;
  enum { BUCKETS = 256, KEYS = 65536 };
  uint32_t low[BUCKETS] = {0}, high[BUCKETS] = {0};
  for (uint64_t key = 0; key < KEYS; key++) {
    uint64_t hash = neap__hash64(&key, sizeof(key), 0);
    low[hash % BUCKETS]++;
    high[hash >> 56]++;
  }
  for (size_t i = 0; i < BUCKETS; i++) { /* mean 256, deviation 16: six deviations */
    assert_in_range(low[i], 160, 352);
    assert_in_range(high[i], 160, 352);
  }
}

int main(void) {
  const char *seed = getenv("NEAP_TEST_SEED");
  rng_state = seed ? strtoull(seed, NULL, 0) : 1;
  printf("seed %llu (NEAP_TEST_SEED)\n", (unsigned long long)rng_state);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(crc_gives_the_published_values),
      cmocka_unit_test(both_crc_paths_match_the_definition_at_every_length_and_alignment),
      cmocka_unit_test(both_crc_paths_match_the_definition_on_large_buffers),
      cmocka_unit_test(crc_continues_from_its_seed),
      cmocka_unit_test(table_hash_depends_on_every_bit_length_and_seed),
      cmocka_unit_test(table_hash_spreads_counters_over_buckets),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
