/* SPDX-License-Identifier: MIT
 *
 * Tokens to chunk hashes. tests/data/hash_vectors.json was recorded from LMCache 0.5.6 ("blake3" hasher). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "chunk/tokens.h"

enum { TOKENS_MAX = 2048, CHUNKS_MAX = 64 };

static void assert_hash(const uint8_t hash[NEAP_HASH_BYTES], const char *expected) {
  char text[2 * NEAP_HASH_BYTES + 1];
  for (size_t i = 0; i < NEAP_HASH_BYTES; i++) snprintf(text + 2 * i, 3, "%02x", hash[i]);
  assert_string_equal(text, expected);
}

static cJSON *read_vectors(void) {
  char path[4096];
  static char text[65536];
  const char *slash = strrchr(__FILE__, '/');
  int dir = slash ? (int)(slash - __FILE__) : 0;
  snprintf(path, sizeof(path), "%.*s%s../data/hash_vectors.json", dir, __FILE__, slash ? "/" : "");
  FILE *file = fopen(path, "r");
  assert_non_null(file);
  size_t bytes = fread(text, 1, sizeof(text) - 1, file);
  fclose(file);
  text[bytes] = '\0';
  cJSON *json = cJSON_Parse(text);
  assert_non_null(json);
  return json;
}

/* The tokens of one recorded case: a list, or one of the formulas that the recording used. */
static void vector_tokens(const cJSON *list, uint32_t *tokens, uint32_t count) {
  static const struct {
    const char *text;
    uint64_t base, times, plus, modulo;
  } formulas[] = {
      {"5+i for", 5, 1, 0, UINT32_MAX},
      {"5+(300+i)%4000 for", 5, 1, 300, 4000},
      {"(i*7919+13)%150000 for", 0, 7919, 13, 150000},
  };
  if (cJSON_IsArray(list)) {
    assert_int_equal(cJSON_GetArraySize(list), count);
    for (uint32_t i = 0; i < count; i++) tokens[i] = (uint32_t)cJSON_GetArrayItem(list, (int)i)->valuedouble;
    return;
  }
  for (size_t f = 0; f < NEAP_ARRAY_LEN(formulas); f++) {
    if (strncmp(list->valuestring, formulas[f].text, strlen(formulas[f].text)) != 0) continue;
    for (uint32_t i = 0; i < count; i++)
      tokens[i] = (uint32_t)(formulas[f].base + (formulas[f].times * i + formulas[f].plus) % formulas[f].modulo);
    return;
  }
  fail_msg("no formula for '%s'", list->valuestring);
}

static void recorded_prompts_hash_as_recorded(void **state) {
  (void)state;
  cJSON *json = read_vectors();
  assert_hash(neap__chain_seed(), cJSON_GetObjectItem(json, "none_hash")->valuestring);
  int cases = 0;
  const cJSON *vector;
  cJSON_ArrayForEach(vector, cJSON_GetObjectItem(json, "vectors")) {
    uint32_t tokens[TOKENS_MAX];
    uint8_t hashes[CHUNKS_MAX][NEAP_HASH_BYTES];
    const cJSON *expected = cJSON_GetObjectItem(vector, "hashes");
    uint32_t count = (uint32_t)cJSON_GetObjectItem(vector, "num_tokens")->valuedouble;
    uint32_t chunk = (uint32_t)cJSON_GetObjectItem(vector, "chunk_size")->valuedouble;
    assert_in_range(count, 1, TOKENS_MAX);
    assert_in_range(count / chunk, 1, CHUNKS_MAX);
    assert_int_equal(cJSON_GetArraySize(expected), count / chunk);
    vector_tokens(cJSON_GetObjectItem(vector, "tokens"), tokens, count);
    neap__chain(neap__chain_seed(), tokens, chunk, count / chunk, hashes);
    for (uint32_t i = 0; i < count / chunk; i++)
      assert_hash(hashes[i], cJSON_GetArrayItem(expected, (int)i)->valuestring);
    cases++;
  }
  assert_true(cases >= 8);
  cJSON_Delete(json);
}

/* Values derived with Python's blake3 from the rule in chunk/tokens.h. */
static void known_token_lists_have_known_hashes(void **state) {
  (void)state;
  uint32_t counting[512], ones[256];
  uint8_t h[2][NEAP_HASH_BYTES];
  for (uint32_t i = 0; i < 512; i++) counting[i] = i;
  for (uint32_t i = 0; i < 256; i++) ones[i] = 1;
  neap__chain(neap__chain_seed(), counting, 4, 2, h);
  assert_hash(h[0], "a2981a4d792b45f791d784bfd025148836ce3032f546cc490ef9fb7db9e639de");
  assert_hash(h[1], "f76a7280af54e664fff4e1239c4a72936fedc49ba027e3a969a314ae980dbfd5");
  neap__chain(neap__chain_seed(), counting, 256, 2, h);
  assert_hash(h[0], "084547b6c40ed5b05ba8cd0305db5bf74d5617673948d9ed193ab7d6cbc484d4");
  assert_hash(h[1], "e5ffee45c2b9db326814c9692dc594369887ba3b0df5761817820b60f864c8e0");
  neap__chain(neap__chain_seed(), ones, 256, 1, h);
  assert_hash(h[0], "1aba48f88227a4108ac116a95210aa28dbb81168ba3917338c4f1ddcf01c0852");
  neap__chain(neap__chain_seed(), counting, 16, 1, h);
  assert_hash(h[0], "32748aa00c5090e4f0e1f149078a07381f4f618d898c1cbac17e36521c3de48f");
}

static void a_chunk_of_any_size_hashes_as_its_bytes_in_one_piece(void **state) {
  (void)state;
  const uint32_t sizes[] = {1, 2, 7, 8, 15, 247, 248, 249, 255, 256, 503, 504, 505, 1024, 5000, NEAP_CHUNK_TOKENS_MAX};
  const size_t bytes_max = NEAP_HASH_BYTES + 4 * (size_t)NEAP_CHUNK_TOKENS_MAX;
  uint32_t *tokens = calloc(NEAP_CHUNK_TOKENS_MAX, sizeof(*tokens));
  uint8_t *bytes = malloc(bytes_max);
  assert_true(tokens && bytes);
  for (uint32_t i = 0; i < NEAP_CHUNK_TOKENS_MAX; i++) tokens[i] = i * 2654435761u;
  for (size_t s = 0; s < NEAP_ARRAY_LEN(sizes); s++) {
    uint8_t chained[1][NEAP_HASH_BYTES], whole[NEAP_HASH_BYTES];
    memcpy(bytes, neap__chain_seed(), NEAP_HASH_BYTES);
    for (uint32_t i = 0; i < sizes[s]; i++)
      for (uint32_t k = 0; k < 4; k++) bytes[NEAP_HASH_BYTES + 4 * i + k] = (uint8_t)(tokens[i] >> (24 - 8 * k));
    neap__blake3(bytes, NEAP_HASH_BYTES + 4 * (size_t)sizes[s], whole);
    neap__chain(neap__chain_seed(), tokens, sizes[s], 1, chained);
    assert_memory_equal(chained[0], whole, NEAP_HASH_BYTES);
  }
  free(tokens);
  free(bytes);
}

static void a_chain_continues_where_it_stopped(void **state) {
  (void)state;
  uint32_t tokens[10 * 16];
  uint8_t whole[10][NEAP_HASH_BYTES], parts[10][NEAP_HASH_BYTES];
  for (uint32_t i = 0; i < NEAP_ARRAY_LEN(tokens); i++) tokens[i] = 7 * i;
  neap__chain(neap__chain_seed(), tokens, 16, 10, whole);
  for (uint32_t cut = 0; cut <= 10; cut++) {
    neap__chain(neap__chain_at(parts, -1), tokens, 16, cut, parts);
    neap__chain(neap__chain_at(parts, (int64_t)cut - 1), tokens + 16 * cut, 16, 10 - cut, parts + cut);
    assert_memory_equal(parts, whole, sizeof(whole));
  }
}

static void equal_chunks_after_different_prefixes_hash_differently(void **state) {
  (void)state;
  uint32_t a[8] = {1, 2, 3, 4, 9, 9, 9, 9}, b[8] = {1, 2, 3, 5, 9, 9, 9, 9};
  uint8_t of_a[2][NEAP_HASH_BYTES], of_b[2][NEAP_HASH_BYTES];
  neap__chain(neap__chain_seed(), a, 4, 2, of_a);
  neap__chain(neap__chain_seed(), b, 4, 2, of_b);
  assert_memory_not_equal(of_a[0], of_b[0], NEAP_HASH_BYTES);
  assert_memory_not_equal(of_a[1], of_b[1], NEAP_HASH_BYTES);
}

static void no_complete_chunk_means_no_hash(void **state) {
  (void)state;
  uint32_t tokens[3] = {1, 2, 3};
  uint8_t out[1][NEAP_HASH_BYTES], untouched[NEAP_HASH_BYTES];
  memset(out, 0xaa, sizeof(out));
  memset(untouched, 0xaa, sizeof(untouched));
  neap__chain(neap__chain_seed(), tokens, 4, 3 / 4, out);
  assert_memory_equal(out[0], untouched, sizeof(untouched));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(recorded_prompts_hash_as_recorded),
      cmocka_unit_test(known_token_lists_have_known_hashes),
      cmocka_unit_test(a_chunk_of_any_size_hashes_as_its_bytes_in_one_piece),
      cmocka_unit_test(a_chain_continues_where_it_stopped),
      cmocka_unit_test(equal_chunks_after_different_prefixes_hash_differently),
      cmocka_unit_test(no_complete_chunk_means_no_hash),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
