/* SPDX-License-Identifier: MIT
 *
 * Keys: LMCache's text forms, their exact inverses, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "chunk/key.h"

#define HASH_TEXT "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff"
#define HASH_00_TO_1E                                                                                                 \
  {                                                                                                                   \
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, \
        255                                                                                                           \
  }

enum { LONG_TEXT = 4096 };

static unsigned seed;

static size_t pick(size_t below) { return (size_t)rand_r(&seed) % below; }

static void the_two_forms_read_as_lmcache_writes_them(void **state) {
  (void)state;
  neap_object_key key = {.model = "llama", .salt = "", .rank = 255, .hash = HASH_00_TO_1E};
  char text[NEAP_KEY_TEXT_MAX];
  assert_int_equal(neap__key_format(&key, NEAP_KEY_NATIVE, text, sizeof(text)), 5 + 1 + 8 + 1 + 1 + 1 + 64);
  assert_string_equal(text, "llama@000000ff@0@" HASH_TEXT);
  key.group = 5;
  neap__key_format(&key, NEAP_KEY_NATIVE, text, sizeof(text));
  assert_string_equal(text, "llama@000000ff@5@" HASH_TEXT);
  key.salt = "alice";
  neap__key_format(&key, NEAP_KEY_NATIVE, text, sizeof(text));
  assert_string_equal(text, "llama@000000ff@5@" HASH_TEXT "@alice");

  key = (neap_object_key){.model = "atomic/model", .salt = "", .group = 3, .hash = HASH_00_TO_1E};
  neap__key_format(&key, NEAP_KEY_FILE, text, sizeof(text));
  assert_string_equal(text, "atomic-SEP-model@0x00000000@3@" HASH_TEXT ".data");
  key.salt = "alice";
  key.group = 0xabc;
  key.rank = 0x02010201;
  neap__key_format(&key, NEAP_KEY_FILE, text, sizeof(text));
  assert_string_equal(text, "atomic-SEP-model@0x02010201@abc@" HASH_TEXT "@alice.data");
}

static void ranks_are_packed_as_lmcache_packs_them(void **state) {
  (void)state;
  assert_int_equal(neap__rank(1, 0), 0x01000100);
  assert_int_equal(neap__rank(2, 1), 0x02010201);
  assert_int_equal(neap__rank(255, 254), 0xfffefffeu);
}

static void stray_names_are_not_keys(void **state) {
  (void)state;
  static const char *const files[] = {
      "",
      "x.data",
      ".data",
      "x",
      "a@0x00000000@0@" HASH_TEXT,
      "a@0x00000000@0@" HASH_TEXT ".data.tmp",
      "a@0x00000000@0@" HASH_TEXT ".tmp",
      "a@0x00000000@0.data",
      "a@0x00000000@" HASH_TEXT ".data",
      "a@0x00000000@0@" HASH_TEXT "@s@t.data",
      "a@0x00000000@0@" HASH_TEXT "@.data",
      "@0x00000000@0@" HASH_TEXT ".data",
      "a@00000000@0@" HASH_TEXT ".data",
      "a@0x0000000@0@" HASH_TEXT ".data",
      "a@0x000000000@0@" HASH_TEXT ".data",
      "a@0x0000000g@0@" HASH_TEXT ".data",
      "a@0x000000FF@0@" HASH_TEXT ".data",
      "a@0x00000000@00@" HASH_TEXT ".data",
      "a@0x00000000@@" HASH_TEXT ".data",
      "a@0x00000000@-1@" HASH_TEXT ".data",
      "a@0x00000000@100000000@" HASH_TEXT ".data",
      "a@0x00000000@0@" HASH_TEXT "0.data",
      "a@0x00000000@0@00.data",
      "a/b@0x00000000@0@" HASH_TEXT ".data",
      "a@0x00000000@0@" HASH_TEXT "@s/t.data",
      "a@0x00000000@0@" HASH_TEXT "@s\\t.data",
      "a@0x00000000@0@zz.data",
  };
  static const char *const natives[] = {
      "",
      "x",
      "a@0x00000000@0@" HASH_TEXT,
      "a@00000000@0@" HASH_TEXT "@",
      "a@00000000@0@" HASH_TEXT ".data",
      "a@00000000@0",
      "a@00000000@" HASH_TEXT,
      "@00000000@0@" HASH_TEXT,
      "a@00000000@0@" HASH_TEXT "@s@t",
      "a@000000FF@0@" HASH_TEXT,
      "a@0000000@0@" HASH_TEXT,
      "a@00000000@F@" HASH_TEXT,
      "a@00000000@0@" HASH_TEXT "@a/b",
  };
  char strings[1024];
  neap_object_key key;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(files); i++)
    if (neap__key_parse(files[i], NEAP_KEY_FILE, &key, strings, sizeof(strings)) != NEAP_EINVAL)
      fail_msg("accepted '%s'", files[i]);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(natives); i++)
    if (neap__key_parse(natives[i], NEAP_KEY_NATIVE, &key, strings, sizeof(strings)) != NEAP_EINVAL)
      fail_msg("accepted '%s'", natives[i]);
  char upper[] = "a@00000000@0@" HASH_TEXT;
  upper[sizeof(upper) - 2] = 'F';
  assert_int_equal(neap__key_parse(upper, NEAP_KEY_NATIVE, &key, strings, sizeof(strings)), NEAP_EINVAL);
  static char endless[100000];
  memset(endless, '/', sizeof(endless) - 1);
  assert_int_equal(neap__key_parse(endless, NEAP_KEY_FILE, &key, strings, sizeof(strings)), NEAP_EINVAL);
}

static void a_model_that_a_file_name_could_not_give_back_is_refused(void **state) {
  (void)state;
  char text[NEAP_KEY_TEXT_MAX];
  neap_object_key key = {.salt = "", .hash = HASH_00_TO_1E};
  const char *refused[] = {"a-SEP-b", "a-SEP/b", "-SEP/", "-SEP-"}, *kept[] = {"/SEP-", "-SEP", "SEP-/", "a-sep-b"};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(refused); i++) {
    key.model = refused[i];
    assert_int_equal(neap__key_format(&key, NEAP_KEY_FILE, text, sizeof(text)), NEAP_EINVAL);
    assert_true(neap__key_format(&key, NEAP_KEY_NATIVE, text, sizeof(text)) > 0);
    key.model = kept[i];
    assert_true(neap__key_format(&key, NEAP_KEY_FILE, text, sizeof(text)) > 0);
  }
}

static void too_small_a_buffer_is_a_bound_and_is_not_overrun(void **state) {
  (void)state;
  neap_object_key key = {.model = "org/model", .salt = "tenant", .rank = 7, .hash = HASH_00_TO_1E}, back;
  for (int form = NEAP_KEY_NATIVE; form <= NEAP_KEY_FILE; form++) {
    char whole[NEAP_KEY_TEXT_MAX], strings[64];
    int bytes = neap__key_format(&key, (neap_key_form)form, whole, sizeof(whole));
    assert_true(bytes > 0);
    for (size_t cap = 0; cap <= (size_t)bytes + 1; cap++) {
      char *text = malloc(cap ? cap : 1); /* of the exact size, so that a sanitizer sees an overrun */
      assert_non_null(text);
      int rc = neap__key_format(&key, (neap_key_form)form, text, cap);
      assert_int_equal(rc, cap > (size_t)bytes ? bytes : NEAP_ELIMIT);
      free(text);
    }
    assert_int_equal(neap__key_parse(whole, (neap_key_form)form, &back, strings, 12), NEAP_ELIMIT);
    assert_int_equal(neap__key_parse(whole, (neap_key_form)form, &back, strings, sizeof(strings)), 0);
  }
}

/* A text of pieces that are likely to confuse: separators, parts of "-SEP-", endings, several scripts. */
static void random_text(char *out, size_t bytes_max, bool salt) {
  static const char *const pieces[] = {"a",     "-SEP-", "-",    "SEP",          "-SEP",     "/",
                                       ".data", "0x",    "Qwen", "\u6a21\u578b", "\xc3\xa9", ".",
                                       "00ff",  ":",     " ",    "##query",      "\n"};
  size_t used = 0, wanted = pick(8) == 0 ? bytes_max : pick(40) + !salt;
  while (used < wanted) {
    const char *piece = pieces[pick(NEAP_ARRAY_LEN(pieces))];
    if (used + strlen(piece) > bytes_max) piece = "b";
    if (salt && strchr(piece, '/')) continue;
    memcpy(out + used, piece, strlen(piece));
    used += strlen(piece);
  }
  out[used] = '\0';
}

static void printing_and_parsing_are_exact_inverses(void **state) {
  (void)state;
  int printed[2] = {0}, refused = 0;
  for (int round = 0; round < 20000; round++) {
    char model[NEAP_MODEL_BYTES_MAX + 1], salt[NEAP_SALT_BYTES_MAX + 1], text[LONG_TEXT], strings[LONG_TEXT];
    neap_key_form form = round % 2 ? NEAP_KEY_FILE : NEAP_KEY_NATIVE;
    random_text(model, NEAP_MODEL_BYTES_MAX, false);
    random_text(salt, NEAP_SALT_BYTES_MAX, true);
    neap_object_key key = {model, salt, {0}, (uint32_t)rand_r(&seed) * 5, (uint32_t)(rand_r(&seed) >> pick(31))}, back;
    for (size_t i = 0; i < NEAP_HASH_BYTES; i++) key.hash[i] = (uint8_t)pick(256);

    int bytes = neap__key_format(&key, form, text, sizeof(text));
    if (form == NEAP_KEY_FILE && (strstr(model, "-SEP-") || strstr(model, "-SEP/"))) {
      assert_int_equal(bytes, NEAP_EINVAL);
      refused++;
      continue;
    }
    assert_int_equal(bytes, strlen(text));
    assert_int_equal(neap__key_parse(text, form, &back, strings, sizeof(strings)), 0);
    assert_string_equal(back.model, model);
    assert_string_equal(back.salt, salt);
    assert_memory_equal(back.hash, key.hash, NEAP_HASH_BYTES);
    assert_int_equal(back.rank, key.rank);
    assert_int_equal(back.group, key.group);
    printed[form]++;
  }
  assert_true(printed[0] == 10000 && printed[1] > 1000 && refused > 1000);
}

/* Whatever is accepted is what would have been printed: a broken text is refused or is another key's text. */
static void a_text_that_parses_prints_as_itself(void **state) {
  (void)state;
  int accepted = 0;
  for (int round = 0; round < 40000; round++) {
    neap_key_form form = round % 2 ? NEAP_KEY_FILE : NEAP_KEY_NATIVE;
    static const char alphabet[] = "@/-SEP.data0x9fF\\ ";
    char text[256], strings[512], again[LONG_TEXT];
    snprintf(text, sizeof(text),
             form == NEAP_KEY_FILE ? "a-SEP-b@0x000000ff@1f@%s@salt.data" : "a-SEP-b@000000ff@1f@%s@salt", HASH_TEXT);
    for (size_t change = pick(3); change > 0; change--) {
      size_t at = pick(strlen(text));
      if (pick(3) == 0)
        memmove(text + at, text + at + 1, strlen(text + at)); /* drop */
      else
        text[at] = alphabet[pick(sizeof(alphabet) - 1)];
    }
    neap_object_key key;
    if (neap__key_parse(text, form, &key, strings, sizeof(strings)) != 0) continue;
    assert_true(neap__key_format(&key, form, again, sizeof(again)) > 0);
    assert_string_equal(again, text);
    accepted++;
  }
  assert_in_range(accepted, 10000, 39000);
}

static void salts_and_models_are_checked(void **state) {
  (void)state;
  neap_error err;
  char longest[NEAP_MODEL_BYTES_MAX + 1];
  memset(longest, 's', sizeof(longest));
  const char *bad[] = {"alice@bob", "@user", "a/b", "a\\b"}, *good[] = {"", "user-abc_123.xyz:42", "\xc3\xa9"};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(bad); i++) {
    err.text[0] = '\0';
    assert_int_equal(neap__salt_check(bad[i], strlen(bad[i]), &err), NEAP_EINVAL);
    assert_non_null(strstr(err.text, bad[i]));
  }
  for (size_t i = 0; i < NEAP_ARRAY_LEN(good); i++)
    assert_int_equal(neap__salt_check(good[i], strlen(good[i]), &err), 0);
  assert_int_equal(neap__salt_check("a\0b", 3, &err), NEAP_EINVAL);
  assert_int_equal(neap__salt_check(longest, 128, &err), 0);
  assert_int_equal(neap__salt_check(longest, 129, &err), NEAP_EINVAL);
  assert_string_equal(err.text, "cache_salt has 129 bytes; expected at most 128");
  assert_int_equal(neap__model_check("org/model", 9, &err), 0);
  assert_int_equal(neap__model_check("m@x", 3, &err), NEAP_EINVAL);
  assert_string_equal(err.text, "model_name 'm@x' has '@' at 1; expected none of @");
  assert_int_equal(neap__model_check("", 0, &err), NEAP_EINVAL);
  assert_int_equal(neap__model_check(longest, NEAP_MODEL_BYTES_MAX, &err), 0);
  assert_int_equal(neap__model_check(longest, NEAP_MODEL_BYTES_MAX + 1, NULL), NEAP_EINVAL);
}

static void every_field_of_a_key_reaches_its_table_hash(void **state) {
  (void)state;
  neap__key key = {.hash = HASH_00_TO_1E, .space = 1, .rank = 2, .group = 3, .tenant = 4};
  uint64_t hash = neap__key_hash(&key);
  for (size_t i = 0; i < sizeof(key); i++) {
    neap__key other = key;
    ((uint8_t *)&other)[i] ^= 1;
    assert_int_not_equal(neap__key_hash(&other), hash);
  }
}

int main(void) {
  const char *given = getenv("NEAP_TEST_SEED");
  seed = given ? (unsigned)strtoul(given, NULL, 0) : 1;
  printf("seed %u (NEAP_TEST_SEED)\n", seed);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_two_forms_read_as_lmcache_writes_them),
      cmocka_unit_test(ranks_are_packed_as_lmcache_packs_them),
      cmocka_unit_test(stray_names_are_not_keys),
      cmocka_unit_test(a_model_that_a_file_name_could_not_give_back_is_refused),
      cmocka_unit_test(too_small_a_buffer_is_a_bound_and_is_not_overrun),
      cmocka_unit_test(printing_and_parsing_are_exact_inverses),
      cmocka_unit_test(a_text_that_parses_prints_as_itself),
      cmocka_unit_test(salts_and_models_are_checked),
      cmocka_unit_test(every_field_of_a_key_reaches_its_table_hash),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
