/* SPDX-License-Identifier: MIT
 *
 * test_native.c - finding plugin modules and loading shared objects: what is taken, and each reason to refuse.
 * The plugins are tests/plugins/variants.c; NEAP_PLUGINS is the folder that they were built into. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "l2/registry.h"

static char built[4096];  /* where the plugins are */
static char scratch[256]; /* a directory of this run */

static void make(char *path, size_t cap, const char *name) {
  assert_true((size_t)snprintf(path, cap, "%s/%s", scratch, name) < cap);
}

static void make_dir(const char *name, mode_t mode) {
  char path[512];
  make(path, sizeof path, name);
  assert_int_equal(mkdir(path, 0700), 0);
  assert_int_equal(chmod(path, mode), 0); /* the umask has no say */
}

static void make_file(const char *name, const char *content, mode_t mode) {
  char path[512];
  make(path, sizeof path, name);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(content, file);
  assert_int_equal(fclose(file), 0);
  assert_int_equal(chmod(path, mode), 0);
}

static int set_up(void **state) {
  (void)state;
  const char *plugins = getenv("NEAP_PLUGINS"), *tmp = getenv("TMPDIR");
  if (!plugins || !realpath(plugins, built)) {
    print_error("NEAP_PLUGINS is not set to the folder of the test plugins\n");
    return -1;
  }
  char pattern[256], real[4096];
  snprintf(pattern, sizeof pattern, "%s/neap-native-XXXXXX", tmp ? tmp : "/tmp");
  if (!mkdtemp(pattern) || !realpath(pattern, real)) return -1;
  return (size_t)snprintf(scratch, sizeof scratch, "%s", real) < sizeof scratch ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  char command[512];
  snprintf(command, sizeof command, "rm -rf '%s'", scratch);
  return system(command);
}

/* --- locating ------------------------------------------------------------------------------------------------- */

static void finds(const char *dirs, const char *module, const char *expected) {
  char path[4096] = "", want[512];
  neap_error err = {""};
  int rc = neap__registry_locate(dirs, module, path, sizeof path, &err);
  if (rc) print_error("%s: %s\n", module, err.text);
  assert_int_equal(rc, 0);
  make(want, sizeof want, expected);
  assert_string_equal(path, want);
}

static void cannot_find(const char *dirs, const char *module, int code, const char *expected) {
  char path[4096] = "";
  neap_error err = {""};
  assert_int_equal(neap__registry_locate(dirs, module, path, sizeof path, &err), code);
  assert_string_equal(strstr(err.text, expected) ? expected : err.text, expected);
  assert_string_equal(path, "");
}

static void a_module_is_found_by_each_of_its_names(void **state) {
  (void)state;
  make_dir("a", 0700);
  make_dir("a/pack", 0700);
  make_dir("a/both", 0700);
  make_dir("a/deep", 0700);
  make_dir("a/deep/er", 0700);
  make_file("a/plain.lua", "", 0644);
  make_file("a/pack/init.lua", "", 0644);
  make_file("a/nat.so", "", 0755);
  make_file("a/libpre.so", "", 0755);
  make_file("a/both/both.so", "", 0755);
  make_file("a/deep/er/mod.lua", "", 0644);
  char dir[512], absolute[600];
  make(dir, sizeof dir, "a");
  finds(dir, "plain", "a/plain.lua");
  finds(dir, "plain.lua", "a/plain.lua");
  finds(dir, "pack", "a/pack/init.lua");
  finds(dir, "nat", "a/nat.so");
  finds(dir, "nat.so", "a/nat.so");
  finds(dir, "pre", "a/libpre.so");
  finds(dir, "both", "a/both/both.so");
  finds(dir, "deep.er.mod", "a/deep/er/mod.lua");
  finds(dir, "deep/er/mod.lua", "a/deep/er/mod.lua");
  finds(dir, "deep/er/mod", "a/deep/er/mod.lua");
  snprintf(absolute, sizeof absolute, "%s/nat.so", dir);
  finds(dir, absolute, "a/nat.so");
  snprintf(absolute, sizeof absolute, "/nowhere-at-all::%s", dir);
  finds(absolute, "plain", "a/plain.lua");
}

static void the_first_directory_that_has_the_module_wins(void **state) {
  (void)state;
  char dirs[1100], first[512], second[512];
  make_dir("first", 0700);
  make_dir("second", 0700);
  make_file("first/m.so", "", 0644);
  make_file("second/m.lua", "", 0644);
  make(first, sizeof first, "first");
  make(second, sizeof second, "second");
  snprintf(dirs, sizeof dirs, "%s:%s", first, second);
  finds(dirs, "m", "first/m.so");
  snprintf(dirs, sizeof dirs, "%s:%s", second, first);
  finds(dirs, "m", "second/m.lua");
}

static void a_missing_module_is_refused_with_what_was_tried(void **state) {
  (void)state;
  cannot_find(scratch, "absent", NEAP_ENOENT, "absent.lua, ");
  cannot_find(scratch, "absent.so", NEAP_ENOENT, "no module 'absent.so'; tried ");
  cannot_find("", "absent", NEAP_ENOENT, "no plugin directory is set (--plugin-path)");
  cannot_find(":", "absent", NEAP_ENOENT, "no plugin directory is set (--plugin-path)");
  cannot_find(NULL, "absent", NEAP_ENOENT, "no plugin directory is set (--plugin-path)");
  cannot_find(scratch, "", NEAP_EINVAL, "module_path must be a non-empty string");
}

static void the_working_directory_is_not_searched(void **state) {
  (void)state;
  make_dir("cwd", 0700);
  make_dir("elsewhere", 0700);
  make_file("cwd/here.lua", "", 0644);
  char cwd[512], elsewhere[512];
  make(cwd, sizeof cwd, "cwd");
  make(elsewhere, sizeof elsewhere, "elsewhere");
  char *before = realpath(".", NULL);
  assert_int_equal(chdir(cwd), 0);
  cannot_find("", "here", NEAP_ENOENT, "no plugin directory");
  cannot_find(elsewhere, "here", NEAP_ENOENT, "no module 'here'");
  assert_int_equal(chdir(before), 0);
  free(before);
}

static void a_way_out_of_the_directories_is_refused(void **state) {
  (void)state;
  make_dir("in", 0700);
  make_file("out.so", "", 0644);
  char dir[512], outside[512], link_path[512];
  make(dir, sizeof dir, "in");
  make(outside, sizeof outside, "out.so");
  make(link_path, sizeof link_path, "in/link.so");
  assert_int_equal(symlink(outside, link_path), 0);
  cannot_find(dir, "../out.so", NEAP_EINVAL, "module_path must not contain '..', got \"../out.so\"");
  cannot_find(dir, "x/../../out", NEAP_EINVAL, "module_path must not contain '..'");
  cannot_find(dir, outside, NEAP_EPERM, "is not below a plugin directory");
  cannot_find(dir, "link", NEAP_EPERM, "leads out of the plugin directory");
}

static void what_anybody_may_write_is_refused(void **state) {
  (void)state;
  make_dir("ww", 0700);
  make_dir("ww/open", 0777);
  make_dir("ww/open/shut", 0755);
  make_dir("ww/dir.so", 0755);
  make_file("ww/loose.so", "", 0666);
  make_file("ww/open/m.so", "", 0644);
  make_file("ww/open/shut/m.so", "", 0644);
  char dir[512];
  make(dir, sizeof dir, "ww");
  cannot_find(dir, "loose", NEAP_EPERM, "loose.so is world-writable");
  cannot_find(dir, "open.m", NEAP_EPERM, "ww/open is world-writable");
  cannot_find(dir, "open.shut.m", NEAP_EPERM, "ww/open is world-writable");
  cannot_find(dir, "dir", NEAP_EPERM, "dir.so is not a regular file");
  make(dir, sizeof dir, "ww/open");
  cannot_find(dir, "m", NEAP_EPERM, "ww/open is world-writable");
}

/* --- loading -------------------------------------------------------------------------------------------------- */

static int parse(const char *dirs, const char *module, const char *class_name, neap__tier_config *config,
                 neap_error *err) {
  char json[512];
  snprintf(json, sizeof json, "{\"type\":\"native_plugin\",\"module_path\":\"%s\"%s%s%s,\"adapter_params\":{}}", module,
           class_name ? ",\"class_name\":\"" : "", class_name ? class_name : "", class_name ? "\"" : "");
  return neap__tier_config_parse(json, 1, dirs, config, err);
}

static void does_not_load(const char *dirs, const char *module, const char *class_name, int code,
                          const char *expected) {
  neap__tier_config config;
  neap_error err = {""};
  int rc = parse(dirs, module, class_name, &config, &err);
  if (rc != code) print_error("%s: %s\n", module, err.text);
  assert_int_equal(rc, code);
  assert_string_equal(strstr(err.text, expected) ? expected : err.text, expected);
}

static void a_good_plugin_is_loaded_with_checked_parameters(void **state) {
  (void)state;
  neap__tier_config config, again;
  neap_error err = {""};
  int rc = parse(built, "one", "First", &config, &err);
  assert_string_equal(err.text, "");
  assert_int_equal(rc, 0);
  assert_string_equal(config.type, "native_plugin");
  assert_string_equal(config.name, "First");
  assert_string_equal(config.params_json, "{\"level\":3}");
  assert_int_equal(parse(built, "one", "First", &again, &err), 0);
  assert_ptr_equal(config.adapter, again.adapter);
  neap__tier_config_free(&config);
  neap__tier_config_free(&again);
}

static void both_plugin_types_take_shared_objects(void **state) {
  (void)state;
  neap__tier_config config;
  neap_error err = {""};
  assert_int_equal(neap__tier_config_parse("{\"type\":\"plugin\",\"module_path\":\"one\",\"class_name\":\"First\","
                                           "\"config_class_name\":\"FirstConfig\",\"max_capacity_gb\":2}",
                                           1, built, &config, &err),
                   0);
  assert_true(config.capacity_bytes == 2ull << 30);
  neap__tier_config_free(&config);
}

static void the_class_may_be_left_out_if_there_is_one(void **state) {
  (void)state;
  neap__tier_config config;
  neap_error err = {""};
  assert_int_equal(parse(built, "one", NULL, &config, &err), 0);
  assert_string_equal(config.name, "First");
  neap__tier_config_free(&config);
  assert_int_equal(parse(built, "two", "Second", &config, &err), 0);
  assert_string_equal(config.name, "Second");
  neap__tier_config_free(&config);
  does_not_load(built, "two", NULL, NEAP_EINVAL, "offers: First, Second");
}

static void an_unknown_class_is_refused_with_the_names_offered(void **state) {
  (void)state;
  does_not_load(built, "two", "Secnd", NEAP_ENOENT,
                "has no class 'Secnd'; it offers: First, Second; did you mean 'Second'?");
  does_not_load(built, "none", "First", NEAP_EINVAL, "offers no adapter");
}

static void parameters_of_a_plugin_are_named_with_their_path(void **state) {
  (void)state;
  neap__tier_config config;
  neap_error err = {""};
  assert_int_equal(neap__tier_config_parse("{\"type\":\"plugin\",\"module_path\":\"one\",\"class_name\":\"First\","
                                           "\"adapter_params\":{\"levl\":1}}",
                                           1, built, &config, &err),
                   NEAP_EINVAL);
  assert_string_equal(err.text, "--l2-adapter #1: unknown key 'adapter_params.levl'; did you mean 'level'?");
}

static void a_table_that_cannot_be_called_is_refused(void **state) {
  (void)state;
  does_not_load(built, "wrong_magic", "First", NEAP_EINVAL, "magic is 0x00000007, expected 0x4e454150");
  does_not_load(built, "wrong_abi", "First", NEAP_EABI, "built for adapter interface 99, this engine has 1");
  does_not_load(built, "short_table", "First", NEAP_EABI, "its adapter table has 24 bytes, expected at least ");
  does_not_load(built, "no_load", "First", NEAP_EINVAL, "adapter 'First' has no function load");
  does_not_load(built, "no_symbol", "First", NEAP_EINVAL, "no symbol neap_adapter_entry");
}

static void what_the_dynamic_linker_says_is_passed_on(void **state) {
  (void)state;
  does_not_load(built, "unresolved", "First", NEAP_EINVAL, "neap_test_function_that_nobody_defines");
  make_dir("text", 0700);
  make_file("text/text.so", "not an object file\n", 0644);
  char dir[512];
  make(dir, sizeof dir, "text");
  does_not_load(dir, "text", "First", NEAP_EINVAL, "--l2-adapter #1: cannot load plugin: ");
  does_not_load(built, "missing", "First", NEAP_ENOENT, "--l2-adapter #1: no module 'missing'; tried ");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_module_is_found_by_each_of_its_names),
      cmocka_unit_test(the_first_directory_that_has_the_module_wins),
      cmocka_unit_test(a_missing_module_is_refused_with_what_was_tried),
      cmocka_unit_test(the_working_directory_is_not_searched),
      cmocka_unit_test(a_way_out_of_the_directories_is_refused),
      cmocka_unit_test(what_anybody_may_write_is_refused),
      cmocka_unit_test(a_good_plugin_is_loaded_with_checked_parameters),
      cmocka_unit_test(both_plugin_types_take_shared_objects),
      cmocka_unit_test(the_class_may_be_left_out_if_there_is_one),
      cmocka_unit_test(an_unknown_class_is_refused_with_the_names_offered),
      cmocka_unit_test(parameters_of_a_plugin_are_named_with_their_path),
      cmocka_unit_test(a_table_that_cannot_be_called_is_refused),
      cmocka_unit_test(what_the_dynamic_linker_says_is_passed_on),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
