/* SPDX-License-Identifier: MIT
 *
 * test_schema.c - parameters against schemas, and strict JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "l2/registry.h"

static const char schema[] =
    "{\"max_size_gb\":{\"type\":\"number\",\"required\":true,\"above\":0},"
    "\"workers\":{\"type\":\"integer\",\"min\":1,\"max\":64,\"default\":4},"
    "\"offset\":{\"type\":\"integer\",\"min\":-2},"
    "\"direct\":{\"type\":\"boolean\",\"default\":false},"
    "\"base_path\":{\"type\":\"string\",\"default\":\"/x\",\"doc\":\"where\"},"
    "\"checksum\":{\"type\":\"string\",\"enum\":[\"none\",\"crc32\"],\"default\":\"none\"},"
    "\"level\":{\"type\":\"integer\",\"enum\":[1,2,3]},"
    "\"password\":{\"type\":\"string\"},"
    "\"map\":{\"type\":\"object\"},\"list\":{\"type\":\"array\",\"max\":2}}";

static void accepts(const char *params, const char *expected) {
  char *out = NULL;
  neap_error err = {""};
  int rc = neap__schema_check(schema, params, "adapter_params", &out, &err);
  if (rc) print_error("%s: %s\n", params, err.text);
  assert_int_equal(rc, 0);
  assert_string_equal(out, expected);
  assert_string_equal(err.text, "");
  free(out);
}

static void refuses_by(const char *rules, const char *params, const char *expected) {
  char *out = NULL;
  neap_error err = {""};
  assert_int_equal(neap__schema_check(rules, params, "adapter_params", &out, &err), NEAP_EINVAL);
  assert_null(out);
  if (!strstr(err.text, expected)) print_error("%s\n", params);
  assert_string_equal(strstr(err.text, expected) ? expected : err.text, expected);
}

static void refuses(const char *params, const char *expected) { refuses_by(schema, params, expected); }

static void defaults_are_filled_in_and_given_values_kept(void **state) {
  (void)state;
  accepts("{\"max_size_gb\":1.5}",
          "{\"max_size_gb\":1.5,\"workers\":4,\"direct\":false,\"base_path\":\"/x\",\"checksum\":\"none\"}");
  accepts(
      "{\"workers\":64,\"max_size_gb\":1e-3,\"direct\":true,\"base_path\":\"\",\"checksum\":\"crc32\","
      "\"level\":2,\"map\":{\"a\":[]},\"list\":[1,2],\"offset\":-2}",
      "{\"workers\":64,\"max_size_gb\":0.001,\"direct\":true,\"base_path\":\"\",\"checksum\":\"crc32\","
      "\"level\":2,\"map\":{\"a\":[]},\"list\":[1,2],\"offset\":-2}");
}

static void null_counts_as_not_given(void **state) {
  (void)state;
  accepts("{\"max_size_gb\":1,\"workers\":null,\"map\":null}",
          "{\"max_size_gb\":1,\"workers\":4,\"direct\":false,\"base_path\":\"/x\",\"checksum\":\"none\"}");
  refuses("{\"max_size_gb\":null}", "adapter_params.max_size_gb must be a positive number, but it is missing");
}

static void a_wrong_value_is_named_with_its_path_its_type_and_what_was_expected(void **state) {
  (void)state;
  refuses("{}", "adapter_params.max_size_gb must be a positive number, but it is missing");
  refuses("{\"max_size_gb\":\"big\"}", "adapter_params.max_size_gb must be a positive number, got \"big\" (string)");
  refuses("{\"max_size_gb\":0}", "adapter_params.max_size_gb must be a positive number, got 0 (number)");
  refuses("{\"max_size_gb\":true}", "must be a positive number, got true (boolean)");
  refuses("{\"max_size_gb\":1,\"workers\":0}",
          "adapter_params.workers must be a positive integer, at most 64, got 0 (number)");
  refuses("{\"max_size_gb\":1,\"workers\":65}", "a positive integer, at most 64, got 65 (number)");
  refuses("{\"max_size_gb\":1,\"workers\":2.5}", "a positive integer, at most 64, got 2.5 (number)");
  refuses("{\"max_size_gb\":1,\"workers\":1e300}", "a positive integer, at most 64, got 1e+300 (number)");
  refuses("{\"max_size_gb\":1,\"offset\":-3}", "adapter_params.offset must be an integer of at least -2, got -3");
  refuses("{\"max_size_gb\":1,\"direct\":1}", "adapter_params.direct must be a boolean, got 1 (number)");
  refuses("{\"max_size_gb\":1,\"base_path\":7}", "adapter_params.base_path must be a string, got 7 (number)");
  refuses("{\"max_size_gb\":1,\"checksum\":\"md5\"}", "checksum must be 'none' or 'crc32', got \"md5\" (string)");
  refuses("{\"max_size_gb\":1,\"level\":4}", "adapter_params.level must be 1, 2, or 3, got 4 (number)");
  refuses("{\"max_size_gb\":1,\"map\":[]}", "adapter_params.map must be a dict, got an array");
  refuses("{\"max_size_gb\":1,\"list\":{}}", "adapter_params.list must be a list of at most 2 items, got an object");
  refuses("{\"max_size_gb\":1,\"list\":[1,2,3]}", "must be a list of at most 2 items, got an array");
  refuses("[1]", "adapter_params must be a dict, got an array");
}

static void a_required_string_is_not_empty(void **state) {
  (void)state;
  static const char rules[] = "{\"base_path\":{\"type\":\"string\",\"required\":true}}";
  refuses_by(rules, "{\"base_path\":\"\"}", "adapter_params.base_path must be a non-empty string, got \"\" (string)");
  refuses_by(rules, "{\"base_path\":3}", "adapter_params.base_path must be a non-empty string, got 3 (number)");
}

static void an_unknown_key_is_refused_with_the_nearest_name(void **state) {
  (void)state;
  refuses("{\"max_size_gb\":1,\"max_sise_gb\":2}",
          "unknown key 'adapter_params.max_sise_gb'; did you mean 'max_size_gb'?");
  refuses("{\"max_size_gb\":1,\"zzzzzzzz\":2}",
          "unknown key 'adapter_params.zzzzzzzz'; expected one of: max_size_gb, workers, ");
  refuses_by("{}", "{\"a\":2}", "unknown key 'adapter_params.a'; expected one of: (none)");
}

static void without_a_schema_any_object_is_taken_as_it_is(void **state) {
  (void)state;
  char *out = NULL;
  neap_error err = {""};
  assert_int_equal(neap__schema_check(NULL, "{\"a\":{\"b\":null}}", "adapter_params", &out, &err), 0);
  assert_string_equal(out, "{\"a\":{\"b\":null}}");
  free(out);
}

static void a_secret_is_not_shown_in_a_message(void **state) {
  (void)state;
  refuses("{\"max_size_gb\":1,\"password\":31337}",
          "adapter_params.password must be a string, got a value not shown here (number)");
}

static void forgiving_json_is_refused(void **state) {
  (void)state;
  static const char *const bad[][2] = {
      {"{\"max_size_gb\":1,\"max_size_gb\":2}", "the name \"max_size_gb\" is given twice"},
      {"{\"max_size_gb\":1} x", "not JSON from byte 18 on"},
      {"{\"max_size_gb\":NaN}", "the number at byte 15 is not a JSON number"},
      {"{\"max_size_gb\":Infinity}", "is not a JSON number"},
      {"{\"max_size_gb\":-Infinity}", "is not a JSON number"},
      {"{\"max_size_gb\":01}", "is not a JSON number"},
      {"{\"max_size_gb\":+1}", "is not a JSON number"},
      {"{\"max_size_gb\":1.}", "is not a JSON number"},
      {"{\"max_size_gb\":.5}", "is not a JSON number"},
      {"{\"max_size_gb\":1e}", "is not a JSON number"},
      {"{\"max_size_gb\":1-2}", "is not a JSON number"},
      {"{\"max_size_gb\":1e999}", "a number is too large"},
      {"{\"base_path\":\"a\\u0000b\"}", "has a wrong character"},
      {"{\"base_path\":\"a\\u00zz\"}", "has a wrong character"},
      {"{\"base_path\":\"a\\x\"}", "has a wrong character"},
      {"{\"base_path\":\"a\nb\"}", "has a wrong character"},
      {"{\"base_path\":\"a", "the string at byte 13 is not closed"},
      {"{\"base_path\":\"a\\", "the string at byte 13 is not closed"},
      {"{\"map\":{\"a\":{\"b\":1,\"b\":2}}}", "the name \"b\" is given twice"},
      {"", "not JSON"},
      {"{", "not JSON"},
      {"{\"a\":\f1}", "control character at byte 5"},
  };
  for (size_t i = 0; i < NEAP_ARRAY_LEN(bad); i++) refuses(bad[i][0], bad[i][1]);
}

static void depth_and_length_are_bounded(void **state) {
  (void)state;
  char deep[160] = "{\"list\":";
  memset(deep + 8, '[', 40);
  memset(deep + 48, ']', 40);
  deep[88] = '}';
  refuses(deep, "nested deeper than 32 levels");
  char *lengthy = malloc(NEAP_JSON_BYTES + 2);
  memset(lengthy, ' ', NEAP_JSON_BYTES + 1);
  lengthy[NEAP_JSON_BYTES + 1] = '\0';
  refuses(lengthy, "longer than 65536 bytes");
  free(lengthy);
}

static void a_wrong_schema_is_the_authors_error(void **state) {
  (void)state;
  refuses_by("[]", "{}", "schema: must be a dict");
  refuses_by("{\"a\":{\"type\":\"float\"}}", "{}", "schema: a.type must be 'number'");
  refuses_by("{\"a\":1}", "{}", "schema: a must be a dict");
  refuses_by("{\"a\":{\"type\":\"number\",\"minimum\":1}}", "{}", "schema: unknown rule a.minimum");
  refuses_by("{\"a\":{\"type\":\"boolean\",\"min\":1}}", "{}", "schema: a.min must be a number and does not go with");
  refuses_by("{\"a\":{\"type\":\"string\",\"enum\":[]}}", "{}", "schema: a.enum must be a non-empty list");
  refuses_by("{\"a\":{\"type\":\"string\",\"required\":1}}", "{}", "schema: a.required must be a boolean");
  refuses_by("{\"a\":{\"type\":\"number\",\"above\":0,\"default\":0}}", "{}",
             "adapter_params.a must be a positive number, got 0 (number)");
  refuses_by("{\"a\":", "{}", "schema: not JSON");
}

static void masking_reaches_every_level(void **state) {
  (void)state;
  cJSON *tree = cJSON_Parse("{\"Password\":\"p\",\"a\":[{\"aws_access_key_id\":1,\"x\":2}],\"api_token\":{\"y\":3}}");
  assert_int_equal(neap__json_mask(tree), 0);
  char *text = cJSON_PrintUnformatted(tree);
  assert_string_equal(text,
                      "{\"Password\":\"***\",\"a\":[{\"aws_access_key_id\":\"***\",\"x\":2}],"
                      "\"api_token\":\"***\"}");
  free(text);
  cJSON_Delete(tree);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(defaults_are_filled_in_and_given_values_kept),
      cmocka_unit_test(null_counts_as_not_given),
      cmocka_unit_test(a_wrong_value_is_named_with_its_path_its_type_and_what_was_expected),
      cmocka_unit_test(a_required_string_is_not_empty),
      cmocka_unit_test(an_unknown_key_is_refused_with_the_nearest_name),
      cmocka_unit_test(without_a_schema_any_object_is_taken_as_it_is),
      cmocka_unit_test(a_secret_is_not_shown_in_a_message),
      cmocka_unit_test(forgiving_json_is_refused),
      cmocka_unit_test(depth_and_length_are_bounded),
      cmocka_unit_test(a_wrong_schema_is_the_authors_error),
      cmocka_unit_test(masking_reaches_every_level),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
