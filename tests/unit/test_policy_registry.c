/* SPDX-License-Identifier: MIT
 *
 * From what an operator writes to a policy: names, files, isolation, parameters, and what is said of what is wrong. */
#include "policy/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policies/builtin.h"
#include "policy/instance.h"
#include "support/policies.h"

static const char *refused(const char *text, int code) {
  static neap_error err;
  err = (neap_error){""};
  neap__policy_spec spec;
  assert_int_equal(neap__policy_find(text, &spec, &err), code);
  return err.text;
}

#define ALL                                                                                                  \
  "LRU, IsolatedLRU, LeafLRU, FIFO, SLRU, 2Q, S3FIFO, SIEVE, ARC, LIRS, LFU, WTinyLFU, GDSF, Random, noop, " \
  "Belady"

static void names_are_found_whatever_their_case_and_dashes(void **state) {
  (void)state;
  static const char *const written[][2] = {
      {"LRU", "LRU"},
      {"lru", "LRU"},
      {"IsolatedLRU", "IsolatedLRU"},
      {"isolated_lru", "IsolatedLRU"},
      {"S3-FIFO", "S3FIFO"},
      {"w-tinylfu", "WTinyLFU"},
      {"leaf-lru", "LeafLRU"},
      {"TwoQ", "2Q"},
      {"opt", "Belady"},
      {"noop", "noop"},
  };
  for (size_t i = 0; i < NEAP_ARRAY_LEN(written); i++) {
    neap__policy_spec spec = spec_of(written[i][0]);
    assert_string_equal(spec.policy->name, written[i][1]);
    assert_string_equal(spec.params, "");
    assert_string_equal(spec.text, written[i][0]);
  }
}

static void every_listed_name_is_found(void **state) {
  (void)state;
  char list[256] = "";
  for (const char *const *name = neap__policy_names(); *name != NULL; name++) {
    assert_string_equal(policy_of(*name)->name, *name);
    snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", list[0] ? ", " : "", *name);
  }
  assert_string_equal(list, ALL);
}

static void an_unknown_name_is_refused_with_the_nearest(void **state) {
  (void)state;
  assert_string_equal(refused("LUR", NEAP_EINVAL),
                      "eviction policy 'LUR' is unknown; expected one of " ALL "; did you mean 'LRU'?");
  assert_string_equal(refused("s4-fifo", NEAP_EINVAL),
                      "eviction policy 's4-fifo' is unknown; expected one of " ALL "; did you mean 'S3FIFO'?");
  assert_string_equal(refused("zzzzzzzzzzzz", NEAP_EINVAL),
                      "eviction policy 'zzzzzzzzzzzz' is unknown; expected one of " ALL);
  assert_string_equal(refused("", NEAP_EINVAL), "eviction policy '' is unknown; expected one of " ALL);
  assert_string_equal(refused("isolated:", NEAP_EINVAL), "eviction policy '' is unknown; expected one of " ALL);
}

static void parameters_are_what_follows_the_name(void **state) {
  (void)state;
  neap__policy_spec spec = spec_of("s3fifo:small=0.2,ghost=1");
  assert_ptr_equal(spec.policy, &neap__policy_s3fifo);
  assert_string_equal(spec.params, "small=0.2,ghost=1");
  spec = spec_of("isolated:S3FIFO:small=0.2");
  assert_string_equal(spec.policy->name, "isolated:S3FIFO");
  assert_string_equal(spec.params, "small=0.2");
  assert_string_equal(refused("s3fifo:0.2", NEAP_EINVAL),
                      "policy 's3fifo:0.2': '0.2' is no parameter; expected name=value");
  assert_string_equal(refused("s3fifo:", NEAP_EINVAL), "policy 's3fifo:': '' is no parameter; expected name=value");
  assert_string_equal(refused("s3fifo:small=", NEAP_EINVAL),
                      "policy 's3fifo:small=': 'small=' is no parameter; expected name=value");
  assert_string_equal(refused("s3fifo:small=1,7", NEAP_EINVAL),
                      "policy 's3fifo:small=1,7': '7' is no parameter; expected name=value");
  assert_string_equal(refused("s3fifo:small=1,", NEAP_EINVAL),
                      "policy 's3fifo:small=1,': nothing follows the last ','; expected name=value");
  char longest[300];
  memset(longest, 'x', sizeof(longest));
  longest[sizeof(longest) - 1] = '\0';
  assert_string_equal(refused(longest, NEAP_EINVAL),
                      "policy 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...' has 299 characters; expected at most 255");
}

static const char *not_opened(const char *text) {
  static neap_error err;
  err = (neap_error){""};
  neap__policy_spec spec = spec_of(text);
  neap__instance *instance = NULL;
  const neap__instance_config config = {.policy = spec.policy, .params = spec.params, .slots = 16};
  assert_int_equal(neap__instance_open(&config, &instance, &err), NEAP_EINVAL);
  return err.text;
}

static void a_policy_refuses_parameters_that_it_does_not_know_or_like(void **state) {
  (void)state;
  assert_string_equal(
      not_opened("s3fifo:smal=0.2"),
      "policy S3FIFO: parameter 'smal' is unknown; expected small, ghost, promote; did you mean 'small'?");
  assert_string_equal(not_opened("s3fifo:small=2"),
                      "policy S3FIFO: parameter small is '2'; expected a number from 0 to 1");
  assert_string_equal(not_opened("s3fifo:small=nan"),
                      "policy S3FIFO: parameter small is 'nan'; expected a number from 0 to 1");
  assert_string_equal(not_opened("s3fifo:small=0.1x"),
                      "policy S3FIFO: parameter small is '0.1x'; expected a number from 0 to 1");
  assert_string_equal(not_opened("lru:size=3"), "policy LRU: parameter 'size' is unknown; expected no parameters");
  assert_string_equal(not_opened("isolated:lirs:cold=7"),
                      "policy LIRS: parameter cold is '7'; expected a number from 0 to 1");
  for (const char *const *name = neap__policy_names(); *name != NULL; name++) {
    char text[64];
    snprintf(text, sizeof(text), "%s:no_such_thing=1", *name);
    assert_non_null(strstr(not_opened(text), "'no_such_thing' is unknown"));
  }
}

static void isolation_is_one_table_for_each_policy(void **state) {
  (void)state;
  assert_ptr_equal(policy_of("isolated:lru"), &neap__policy_isolated_lru);
  assert_ptr_equal(policy_of("Isolated:IsolatedLRU"), &neap__policy_isolated_lru);
  assert_ptr_equal(policy_of("isolated:sieve"), policy_of("ISOLATED:SIEVE"));
  assert_ptr_not_equal(policy_of("isolated:sieve"), policy_of("isolated:fifo"));
  assert_int_equal(policy_of("isolated:gdsf")->constraint, NEAP_EVICT_LEAF);
  assert_int_equal(policy_of("isolated:noop")->flags, NEAP_POLICY_SHORT_STANDS);
  refused("isolated:isolated:lru", NEAP_EINVAL);
}

/* --- files ------------------------------------------------------------------------------------------------------ */

static const char *plugin(const char *name) {
  static char path[512];
  const char *folder = getenv("NEAP_PLUGINS");
  snprintf(path, sizeof(path), "%s/%s", folder != NULL ? folder : "plugins", name);
  return path;
}

static void a_native_policy_works_by_itself_and_isolated(void **state) {
  (void)state;
  char text[600];
  for (int alone = 0; alone < 2; alone++) {
    snprintf(text, sizeof(text), "%s%s", alone ? "isolated:" : "", plugin("newest_first.so"));
    const neap__instance_config config = {.policy = policy_of(text), .slots = 16};
    neap__instance *instance = NULL;
    neap_error err = {""};
    assert_int_equal(neap__instance_open(&config, &instance, &err), 0);
    for (uint32_t slot = 0; slot < 4; slot++) {
      const neap_event ev = {.slot = slot, .type = NEAP_EV_INSERT, .tenant = slot / 2};
      neap__instance_deliver(instance, &ev, 1);
    }
    uint32_t out[2] = {9, 9};
    assert_int_equal(neap__instance_victims(instance, NEAP_SCOPE_ALL, out, 1), 1);
    assert_int_equal(out[0], alone ? 1 : 3); /* isolated: tenant 0 has the least recent, 1 is its newest */
    neap__instance_close(instance);
  }
}

static void a_file_that_is_no_policy_is_refused(void **state) {
  (void)state;
  assert_string_equal(refused("./nothing_here.so", NEAP_ENOENT), "policy ./nothing_here.so: No such file or directory");
  assert_non_null(strstr(refused(plugin("policy_wrong_abi.so"), NEAP_EABI), "policy abi is 1; expected 2"));
  assert_non_null(strstr(refused(plugin("policy_no_symbol.so"), NEAP_EABI), "exports no neap_policy_entry"));
  assert_non_null(strstr(refused(plugin("policy_no_create.so"), NEAP_EABI), "policy member 'create' is NULL"));
  const char *root = getenv("NEAP_SOURCE");
  char text[512];
  snprintf(text, sizeof(text), "%s/README.md", root != NULL ? root : ".");
  assert_non_null(strstr(refused(text, NEAP_EINVAL), "is unknown"));
}

static int load_any(const char *path, const neap_policy **out, neap_error *err) {
  if (strstr(path, "tests") == NULL) return neap__fail(err, NEAP_ESCRIPT, "%s:1: no", path);
  *out = &neap__policy_fifo;
  return 0;
}

static void an_ending_is_loaded_by_who_plugged_itself_in(void **state) {
  (void)state;
  static neap__policy_loader loader = {.ending = "txt", .load = load_any};
  const char *root = getenv("NEAP_SOURCE");
  char text[512];
  snprintf(text, sizeof(text), "%s/tests/CMakeLists.txt:a=b", root != NULL ? root : ".");
  neap__policy_spec spec;
  assert_int_equal(neap__policy_find(text, &spec, NULL), NEAP_EINVAL);
  neap__policy_add_loader(&loader);
  neap__policy_add_loader(&loader);
  spec = spec_of(text);
  assert_ptr_equal(spec.policy, &neap__policy_fifo);
  assert_string_equal(spec.params, "a=b");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_are_found_whatever_their_case_and_dashes),
      cmocka_unit_test(every_listed_name_is_found),
      cmocka_unit_test(an_unknown_name_is_refused_with_the_nearest),
      cmocka_unit_test(parameters_are_what_follows_the_name),
      cmocka_unit_test(a_policy_refuses_parameters_that_it_does_not_know_or_like),
      cmocka_unit_test(isolation_is_one_table_for_each_policy),
      cmocka_unit_test(a_native_policy_works_by_itself_and_isolated),
      cmocka_unit_test(a_file_that_is_no_policy_is_refused),
      cmocka_unit_test(an_ending_is_loaded_by_who_plugged_itself_in),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
