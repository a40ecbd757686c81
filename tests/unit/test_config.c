/* SPDX-License-Identifier: MIT
 *
 * test_config.c - `--l2-adapter JSON`: what is accepted, and each message for what is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "l2/registry.h"

static int probe_open(const neap_adapter *adapter, const neap_host *host, const char *params_json, void **self,
                      neap_error *err) {
  (void)adapter, (void)host, (void)params_json, (void)self, (void)err;
  return NEAP_ENOTSUP;
}
static void probe_op(void *self, neap_op *op) { (void)self, (void)op; }
static void probe_close(void *self) { (void)self; }

#define PROBE_FUNCTIONS \
  .open = probe_open, .store = probe_op, .lookup = probe_op, .load = probe_op, .close = probe_close

/* The kinds of parameters that LMCache's built-in types have. */
static const neap_adapter probe = {
    NEAP_ADAPTER_INIT("probe", "1"),
    .schema_json =
        "{\"base_path\":{\"type\":\"string\",\"required\":true},"
        "\"relative_tmp_dir\":{\"type\":\"string\"},"
        "\"read_ahead_size\":{\"type\":\"integer\",\"min\":1},"
        "\"use_odirect\":{\"type\":\"boolean\",\"default\":false},"
        "\"per_op_workers\":{\"type\":\"object\"},"
        "\"password\":{\"type\":\"string\"}}",
    PROBE_FUNCTIONS,
};
static const neap_adapter free_form = {NEAP_ADAPTER_INIT("free_form", "1"), .schema_json = NULL, PROBE_FUNCTIONS};
static const neap_adapter clashing = {
    NEAP_ADAPTER_INIT("clashing", "1"),
    .schema_json = "{\"shared\":{\"type\":\"string\"},\"own\":{\"type\":\"string\"}}",
    PROBE_FUNCTIONS,
};
static const neap_traits traits = {
    .size = sizeof(traits), .concurrency = 8, .batch = 16, .deadline_ms = 2500, .retries = 3, .backoff_ms = 20};
static const neap_adapter modest = {NEAP_ADAPTER_INIT("modest", "1"), PROBE_FUNCTIONS, .traits = &traits};
NEAP_ADAPTER_BUILTIN(modest)
NEAP_ADAPTER_BUILTIN(clashing)
NEAP_ADAPTER_BUILTIN(probe)
NEAP_ADAPTER_BUILTIN(free_form)

static void refuses_with(int code, const char *json, const char *expected) {
  neap__tier_config config;
  neap_error err = {""};
  int rc = neap__tier_config_parse(json, 1, "", &config, &err);
  if (rc != code) print_error("%s: %s\n", json, err.text);
  assert_int_equal(rc, code);
  assert_string_equal(strstr(err.text, expected) ? expected : err.text, expected);
  assert_null(config.type);
}

static void refuses(const char *json, const char *expected) { refuses_with(NEAP_EINVAL, json, expected); }

static neap__tier_config parse(const char *json) {
  neap__tier_config config;
  neap_error err = {""};
  int rc = neap__tier_config_parse(json, 1, "", &config, &err);
  if (rc) print_error("%s: %s\n", json, err.text);
  assert_int_equal(rc, 0);
  return config;
}

static void bad_json_of_lmcaches_list_gets_lmcaches_words(void **state) {
  (void)state;
  static const char *const bad[][2] = {
      {"{", "Invalid JSON for --l2-adapter #1: "},
      {"", "Invalid JSON for --l2-adapter #1: "},
      {"[]", "--l2-adapter #1: expected a JSON object, got array"},
      {"\"fs\"", "--l2-adapter #1: expected a JSON object, got string"},
      {"null", "--l2-adapter #1: expected a JSON object, got null"},
      {"{}", "--l2-adapter #1: missing 'type'"},
      {"{\"base_path\":\"/x\"}", "--l2-adapter #1: missing 'type'"},
      {"{\"type\":3}", "--l2-adapter #1: type must be a non-empty string, got 3 (number)"},
      {"{\"type\":\"\"}", "--l2-adapter #1: type must be a non-empty string"},
      {"{\"type\":\"x\"}", "--l2-adapter #1: unknown L2 adapter type 'x'; expected one of: "},
      {"{\"type\":\"mok\"}", "unknown L2 adapter type 'mok'; did you mean 'mock'?"},
      {"{\"type\":\"native_plugn\"}", "unknown L2 adapter type 'native_plugn'; did you mean 'native_plugin'?"},
      {"{\"type\":\"plugin\"}", "module_path must be a non-empty string, but it is missing"},
      {"{\"type\":\"plugin\",\"module_path\":\"\"}", "module_path must be a non-empty string, got \"\""},
      {"{\"type\":\"plugin\",\"module_path\":[]}", "module_path must be a non-empty string, got an array"},
      {"{\"type\":\"plugin\",\"module_path\":\"m\",\"class_name\":\"\"}", "class_name must be a non-empty string"},
      {"{\"type\":\"plugin\",\"module_path\":\"m\",\"class_name\":1}", "class_name must be a non-empty string, got 1"},
      {"{\"type\":\"plugin\",\"module_path\":\"m\",\"class_name\":\"C\",\"adapter_params\":\"p\"}",
       "adapter_params must be a dict, got \"p\" (string)"},
      {"{\"type\":\"plugin\",\"module_path\":\"m\",\"class_name\":\"C\",\"config_class_name\":5}",
       "config_class_name must be a string, got 5 (number)"},
      {"{\"type\":\"native_plugin\",\"module_path\":\"m\",\"class_name\":\"C\",\"max_capacity_gb\":-1}",
       "max_capacity_gb must be a non-negative number"},
      {"{\"type\":\"probe\",\"base_path\":\"/x\",\"max_capacity_gb\":\"1\"}",
       "max_capacity_gb must be a non-negative number"},
      {"{\"type\":\"probe\",\"base_path\":\"/x\",\"max_capacity_gb\":true}",
       "max_capacity_gb must be a non-negative number"},
      {"{\"type\":\"probe\"}", "base_path must be a non-empty string, but it is missing"},
      {"{\"type\":\"probe\",\"base_path\":\"\"}", "base_path must be a non-empty string"},
      {"{\"type\":\"probe\",\"base_path\":\"/x\",\"relative_tmp_dir\":1}", "relative_tmp_dir must be a string"},
      {"{\"type\":\"probe\",\"base_path\":\"/x\",\"read_ahead_size\":0}", "read_ahead_size must be a positive integer"},
      {"{\"type\":\"probe\",\"base_path\":\"/x\",\"read_ahead_size\":true}",
       "read_ahead_size must be a positive integer, got true (boolean)"},
      {"{\"type\":\"probe\",\"base_path\":\"/x\",\"use_odirect\":\"yes\"}", "use_odirect must be a boolean"},
      {"{\"type\":\"probe\",\"base_path\":\"/x\",\"per_op_workers\":4}", "per_op_workers must be a dict"},
      {"{\"type\":\"mock\",\"mock_bandwidth_gb\":1}",
       "max_size_gb must be a positive number, at most 1000000000, but it is missing"},
      {"{\"type\":\"mock\",\"max_size_gb\":0,\"mock_bandwidth_gb\":1}", "max_size_gb must be a positive number"},
      {"{\"type\":\"mock\",\"max_size_gb\":1}", "mock_bandwidth_gb must be a positive number"},
      {"{\"type\":\"mock\",\"max_size_gb\":1,\"mock_bandwidth_gb\":\"f\"}",
       "mock_bandwidth_gb must be a positive number, got \"f\" (string)"},
      {"{\"type\":\"probe\",\"base_path\":\"/x\",\"serde\":\"fp8\"}", "'serde' must be a dict"},
      {"{\"type\":\"probe\",\"base_path\":\"/x\",\"serde\":{}}", "'serde' dict must include a 'type' field"},
      {"{\"type\":\"probe\",\"base_path\":\"/x\",\"eviction\":{\"eviction_policy\":\"FIFO\"}}",
       "eviction.eviction_policy must be 'LRU', 'IsolatedLRU', 'ARC', or 'noop', got \"FIFO\" (string)"},
      {"{\"type\":\"probe\",\"base_path\":\"/x\",\"eviction\":3}", "eviction must be a dict"},
      {"{\"type\":\"probe\",\"base_path\":\"/x\",\"affinity_tag\":\"a\"}", "Unknown L1 affinity_tag: 'a'"},
  };
  for (size_t i = 0; i < NEAP_ARRAY_LEN(bad); i++) refuses(bad[i][0], bad[i][1]);
}

static void a_serde_is_refused_by_name(void **state) {
  (void)state;
  refuses_with(NEAP_ENOTSUP, "{\"type\":\"probe\",\"base_path\":\"/x\",\"serde\":{\"type\":\"fp8\"}}",
               "--l2-adapter #1: this build has no serde 'fp8'");
}

static void unknown_keys_are_refused_with_their_path(void **state) {
  (void)state;
  refuses("{\"type\":\"probe\",\"base_path\":\"/x\",\"base_pth\":1}",
          "--l2-adapter #1: unknown key 'base_pth'; did you mean 'base_path'?");
  refuses("{\"type\":\"probe\",\"base_path\":\"/x\",\"persist_enable\":true}",
          "unknown key 'persist_enable'; did you mean 'persist_enabled'?");
  refuses("{\"type\":\"plugin\",\"module_path\":\"m\",\"adapter_param\":{}}",
          "unknown key 'adapter_param'; did you mean 'adapter_params'?");
  refuses("{\"type\":\"probe\",\"base_path\":\"/x\",\"eviction\":{\"eviction_policy\":\"LRU\",\"evict_ratio\":1}}",
          "unknown key 'eviction.evict_ratio'; did you mean 'eviction_ratio'?");
  refuses("{\"type\":\"probe\",\"base_path\":\"/x\",\"base_path\":\"/y\"}", "the name \"base_path\" is given twice");
}

static void shares_of_eviction_lie_between_0_and_1(void **state) {
  (void)state;
  refuses(
      "{\"type\":\"probe\",\"base_path\":\"/x\","
      "\"eviction\":{\"eviction_policy\":\"LRU\",\"eviction_ratio\":1.5}}",
      "eviction.eviction_ratio must be a positive number, at most 1, got 1.5 (number)");
  refuses(
      "{\"type\":\"probe\",\"base_path\":\"/x\","
      "\"eviction\":{\"eviction_policy\":\"LRU\",\"trigger_watermark\":0}}",
      "eviction.trigger_watermark must be a positive number, at most 1, got 0 (number)");
}

static void a_built_in_gets_its_parameters_without_the_frameworks(void **state) {
  (void)state;
  neap__tier_config config = parse(
      "{\"type\":\"probe\",\"base_path\":\"/x\",\"shared\":true,\"max_capacity_gb\":0.5,"
      "\"eviction\":{\"eviction_policy\":\"IsolatedLRU\",\"eviction_ratio\":0.25}}");
  assert_ptr_equal(config.adapter, &probe);
  assert_string_equal(config.type, "probe");
  assert_string_equal(config.name, "probe");
  assert_string_equal(config.params_json, "{\"base_path\":\"/x\",\"use_odirect\":false}");
  assert_true(config.shared);
  assert_true(config.persist_enabled);
  assert_string_equal(config.eviction_policy, "IsolatedLRU");
  assert_float_equal(config.trigger_watermark, 0.8, 1e-12);
  assert_float_equal(config.eviction_ratio, 0.25, 1e-12);
  assert_true(config.capacity_bytes == 512u << 20);
  neap__tier_config_free(&config);
  assert_null(config.params_json);
}

static void defaults_are_lmcaches(void **state) {
  (void)state;
  neap__tier_config config = parse("{\"type\":\"mock\",\"max_size_gb\":1,\"mock_bandwidth_gb\":20}");
  assert_string_equal(config.name, "mock");
  assert_string_equal(config.params_json, "{\"max_size_gb\":1,\"mock_bandwidth_gb\":20}");
  assert_false(config.shared);
  assert_true(config.persist_enabled);
  assert_string_equal(config.eviction_policy, "");
  assert_float_equal(config.trigger_watermark, 0.8, 1e-12);
  assert_float_equal(config.eviction_ratio, 0.2, 1e-12);
  assert_true(config.capacity_bytes == 0);
  neap__tier_config_free(&config);
}

static void limits_are_the_adapters_unless_the_configuration_says_otherwise(void **state) {
  (void)state;
  neap__tier_config config = parse("{\"type\":\"modest\"}");
  assert_int_equal(config.limits.concurrency, 8);
  assert_int_equal(config.limits.batch, 16);
  assert_int_equal(config.limits.deadline_ms, 2500);
  assert_int_equal(config.limits.retries, 3);
  assert_int_equal(config.limits.backoff_ms, 20);
  assert_int_equal(config.limits.breaker_failures, 5);
  neap__tier_config_free(&config);
  config = parse(
      "{\"type\":\"modest\",\"concurrency\":256,\"batch\":1,\"deadline\":0.25,\"retries\":0,\"backoff\":0,"
      "\"breaker\":{\"failures\":0,\"cooldown\":60},\"failed_store_pause\":0,\"no_space_pause\":1.5,\"own\":1}");
  assert_string_equal(config.params_json, "{\"own\":1}");
  assert_int_equal(config.limits.concurrency, 256);
  assert_int_equal(config.limits.batch, 1);
  assert_int_equal(config.limits.deadline_ms, 250);
  assert_int_equal(config.limits.retries, 0);
  assert_int_equal(config.limits.backoff_ms, 0);
  assert_int_equal(config.limits.breaker_failures, 0);
  assert_int_equal(config.limits.cooldown_ms, 60000);
  assert_int_equal(config.limits.cooldown_max_ms, 60000);
  assert_int_equal(config.limits.negative_ms, 0);
  assert_int_equal(config.limits.no_space_ms, 1500);
  neap__tier_config_free(&config);
  refuses("{\"type\":\"modest\",\"concurrency\":257}", "concurrency must be ");
  refuses("{\"type\":\"modest\",\"deadline\":0}", "deadline must be ");
  refuses("{\"type\":\"modest\",\"breaker\":{\"failure\":1}}", "breaker.failure");
  refuses("{\"type\":\"modest\",\"breaker\":true}", "breaker must be a dict");
}

static void a_type_without_schema_takes_any_parameter_but_no_wrong_framework_key(void **state) {
  (void)state;
  neap__tier_config config = parse("{\"type\":\"free_form\",\"anything\":[1,{\"x\":2}],\"shared\":false}");
  assert_string_equal(config.params_json, "{\"anything\":[1,{\"x\":2}]}");
  neap__tier_config_free(&config);
  refuses("{\"type\":\"free_form\",\"anything\":1,\"shared\":\"no\"}", "shared must be a boolean");
}

static void the_frameworks_keys_keep_their_meaning_whatever_a_type_declares(void **state) {
  (void)state;
  neap__tier_config config = parse("{\"type\":\"clashing\",\"own\":\"o\",\"shared\":true}");
  assert_true(config.shared);
  assert_string_equal(config.params_json, "{\"own\":\"o\"}");
  neap__tier_config_free(&config);
}

static const neap_adapter summing = {
    NEAP_ADAPTER_INIT("summing", "1"),
    .schema_json = "{\"checksum\":{\"type\":\"string\"}}",
    PROBE_FUNCTIONS,
};
NEAP_ADAPTER_BUILTIN(summing)

static void checksum_wraps_what_has_none_of_its_own(void **state) {
  (void)state;
  neap__tier_config config =
      parse("{\"type\":\"probe\",\"base_path\":\"/x\",\"checksum\":\"crc32c\",\"max_capacity_gb\":1,\"deadline\":5}");
  assert_string_equal(config.adapter->name, "checksum");
  assert_string_equal(config.name, "probe");
  assert_string_equal(config.type, "probe");
  assert_string_equal(config.params_json, "{\"inner\":{\"base_path\":\"/x\",\"type\":\"probe\"},\"buffer_mb\":256}");
  assert_int_equal(config.capacity_bytes, UINT64_C(1) << 30);
  neap__tier_config_free(&config);
  config = parse("{\"type\":\"free_form\",\"checksum\":\"crc32c\"}");
  assert_string_equal(config.adapter->name, "checksum");
  neap__tier_config_free(&config);
  config = parse("{\"type\":\"summing\",\"checksum\":\"own\"}");
  assert_ptr_equal(config.adapter, &summing);
  assert_string_equal(config.params_json, "{\"checksum\":\"own\"}");
  neap__tier_config_free(&config);
  refuses("{\"type\":\"probe\",\"base_path\":\"/x\",\"checksum\":\"md5\"}", "checksum must be 'crc32c', got \"md5\"");
}

static void what_is_shown_is_what_was_given_without_secrets(void **state) {
  (void)state;
  neap__tier_config config = parse("{\"type\":\"probe\",\"base_path\":\"/x\",\"password\":\"hunter2\"}");
  assert_string_equal(config.shown_json, "{\"type\":\"probe\",\"base_path\":\"/x\",\"password\":\"***\"}");
  assert_non_null(strstr(config.params_json, "hunter2"));
  neap__tier_config_free(&config);
}

static void a_name_that_is_taken_is_refused(void **state) {
  (void)state;
  static const neap_adapter twin = {NEAP_ADAPTER_INIT("probe", "2"), PROBE_FUNCTIONS};
  static const neap_adapter module = {NEAP_ADAPTER_INIT("plugin", "2"), PROBE_FUNCTIONS};
  static const neap_adapter nameless = {NEAP_ADAPTER_INIT("", "2"), PROBE_FUNCTIONS};
  assert_int_equal(neap_adapter_register(&twin), NEAP_EEXIST);
  assert_int_equal(neap_adapter_register(&module), NEAP_EEXIST);
  assert_int_equal(neap_adapter_register(&nameless), NEAP_EINVAL);
  assert_ptr_equal(neap__registry_find("probe"), &probe);
}

static void the_number_of_the_adapter_is_in_the_message(void **state) {
  (void)state;
  neap__tier_config config;
  neap_error err = {""};
  assert_int_equal(neap__tier_config_parse("{}", 7, "", &config, &err), NEAP_EINVAL);
  assert_string_equal(err.text, "--l2-adapter #7: missing 'type'");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bad_json_of_lmcaches_list_gets_lmcaches_words),
      cmocka_unit_test(a_serde_is_refused_by_name),
      cmocka_unit_test(unknown_keys_are_refused_with_their_path),
      cmocka_unit_test(shares_of_eviction_lie_between_0_and_1),
      cmocka_unit_test(a_built_in_gets_its_parameters_without_the_frameworks),
      cmocka_unit_test(defaults_are_lmcaches),
      cmocka_unit_test(limits_are_the_adapters_unless_the_configuration_says_otherwise),
      cmocka_unit_test(a_type_without_schema_takes_any_parameter_but_no_wrong_framework_key),
      cmocka_unit_test(the_frameworks_keys_keep_their_meaning_whatever_a_type_declares),
      cmocka_unit_test(checksum_wraps_what_has_none_of_its_own),
      cmocka_unit_test(what_is_shown_is_what_was_given_without_secrets),
      cmocka_unit_test(a_name_that_is_taken_is_refused),
      cmocka_unit_test(the_number_of_the_adapter_is_in_the_message),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
