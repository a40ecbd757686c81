/* SPDX-License-Identifier: MIT
 *
 * test_flags.c - the command line of `neap server`: values, refusals, and that --help, the man page and the
 * table agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flags.h"
#include "server_config.h"

#define REQUIRED "--l1-size-gb", "2", "--eviction-policy", "LRU"

static neap_error failure;

/* Parses the words up to NULL after "server". */
static int parse(neap__flags **flags, ...) {
  char *argv[64] = {"server"};
  int argc = 1;
  bool help;
  va_list words;
  va_start(words, flags);
  while ((argv[argc] = va_arg(words, char *))) argc++;
  va_end(words);
  memset(&failure, 0, sizeof failure);
  return neap__flags_parse(argc, argv, flags, &help, &failure);
}

#define REFUSED(sentence, ...)                                       \
  do {                                                               \
    neap__flags *none_;                                              \
    assert_int_equal(parse(&none_, __VA_ARGS__, NULL), NEAP_EINVAL); \
    assert_null(none_);                                              \
    assert_string_equal(failure.text, sentence);                     \
  } while (0)

static neap__flags *parsed(neap__flags *flags, int rc) {
  if (rc) print_error("%s\n", failure.text);
  assert_int_equal(rc, 0);
  return flags;
}

#define PARSED(flags, ...)                        \
  do {                                            \
    int rc_ = parse(&(flags), __VA_ARGS__, NULL); \
    parsed(flags, rc_);                           \
  } while (0)

static void takes_the_defaults_of_lmcache(void **state) {
  (void)state;
  neap__flags *flags;
  uint32_t count = 9;
  PARSED(flags, REQUIRED);
  assert_string_equal(neap__flags_text(flags, "host"), "localhost");
  assert_int_equal(neap__flags_int(flags, "port"), 5555);
  assert_string_equal(neap__flags_text(flags, "http-host"), "127.0.0.1");
  assert_int_equal(neap__flags_int(flags, "http-port"), 8080);
  assert_int_equal(neap__flags_int(flags, "chunk-size"), 256);
  assert_true(neap__flags_number(flags, "eviction-trigger-watermark") == 0.8);
  assert_true(neap__flags_number(flags, "eviction-ratio") == 0.2);
  assert_true(neap__flags_on(flags, "l1-use-lazy"));
  assert_false(neap__flags_on(flags, "l1-keep"));
  assert_string_equal(neap__flags_text(flags, "shm-name"), "");
  assert_null(neap__flags_text(flags, "plugin-path"));
  neap__flags_list(flags, "l2-adapter", &count);
  assert_int_equal(count, 0);
  assert_false(neap__flags_given(flags, "port"));
  neap__flags_free(flags);
}

static void takes_a_value_behind_a_blank_or_an_equals_sign(void **state) {
  (void)state;
  neap__flags *flags;
  PARSED(flags, "--l1-size-gb=0.5", "--eviction-policy=ARC", "--port", "0", "--shm-name=", "--instance-id=a=b");
  assert_true(neap__flags_number(flags, "l1-size-gb") == 0.5);
  assert_string_equal(neap__flags_text(flags, "eviction-policy"), "ARC");
  assert_int_equal(neap__flags_int(flags, "port"), 0);
  assert_string_equal(neap__flags_text(flags, "shm-name"), "");
  assert_string_equal(neap__flags_text(flags, "instance-id"), "a=b");
  neap__flags_free(flags);
}

static void the_last_one_of_a_repeated_flag_counts(void **state) {
  (void)state;
  neap__flags *flags;
  PARSED(flags, REQUIRED, "--port", "1", "--port=2", "--no-l1-use-lazy", "--l1-use-lazy", "--no-l1-use-lazy");
  assert_int_equal(neap__flags_int(flags, "port"), 2);
  assert_false(neap__flags_on(flags, "l1-use-lazy"));
  neap__flags_free(flags);
}

static void collects_lists_in_the_order_given(void **state) {
  (void)state;
  neap__flags *flags;
  uint32_t count;
  PARSED(flags, "--l2-adapter", "{a}", "--script-allowed-imports", "x", "y", REQUIRED, "--l2-adapter={b}",
         "--server-module", "{m}", "--l2-adapter", "{c}");
  const char *const *list = neap__flags_list(flags, "l2-adapter", &count);
  assert_int_equal(count, 3);
  assert_string_equal(list[0], "{a}");
  assert_string_equal(list[1], "{b}");
  assert_string_equal(list[2], "{c}");
  list = neap__flags_list(flags, "script-allowed-imports", &count);
  assert_int_equal(count, 2);
  assert_string_equal(list[1], "y");
  neap__flags_free(flags);
}

static void names_flag_value_and_expectation_of_what_it_refuses(void **state) {
  (void)state;
  REFUSED("--l1-size-gb: missing; it is required", "--eviction-policy", "LRU");
  REFUSED("--eviction-policy: missing; it is required", "--l1-size-gb", "1");
  REFUSED("--port: '65536' is not valid; expected an integer from 0 to 65535", REQUIRED, "--port", "65536");
  REFUSED("--port: '1.5' is not valid; expected an integer from 0 to 65535", REQUIRED, "--port", "1.5");
  REFUSED("--port: '0x10' is not valid; expected an integer from 0 to 65535", REQUIRED, "--port=0x10");
  REFUSED("--port: '' is not valid; expected an integer from 0 to 65535", REQUIRED, "--port=");
  REFUSED("--port: no value given; expected N", REQUIRED, "--port");
  REFUSED("--port: no value given; expected N", REQUIRED, "--port", "--l1-keep");
  REFUSED("--eviction-ratio: 'nan' is not valid; expected a number from 0 to 1", REQUIRED, "--eviction-ratio", "nan");
  REFUSED("--l2-store-policy: 'Default' is not valid; expected default|skip_l1", REQUIRED, "--l2-store-policy",
          "Default");
  REFUSED("--l2-store-policy: '' is not valid; expected default|skip_l1", REQUIRED, "--l2-store-policy=");
  REFUSED("--l1-keep: 'yes' is not valid; this flag takes no value", REQUIRED, "--l1-keep=yes");
  REFUSED("--l1-align-bytes: '1000' is not valid; expected a power of two", REQUIRED, "--l1-align-bytes", "1000");
  REFUSED("--worker-reap-timeout-seconds: '5' is not valid; expected 0 or at least 30, three heartbeats of a worker",
          REQUIRED, "--worker-reap-timeout-seconds", "5");
  REFUSED(
      "--worker-registration-grace-seconds: '60' is not valid; expected at least --worker-reap-timeout-seconds "
      "(120)",
      REQUIRED, "--worker-registration-grace-seconds", "60");
  REFUSED("--transport: 'grpc' is not served; expected zmq", REQUIRED, "--transport", "grpc");
  REFUSED("unexpected argument 'x'; expected a flag", REQUIRED, "x");
}

static void suggests_the_nearest_name_for_an_unknown_flag(void **state) {
  (void)state;
  REFUSED("unknown flag '--l1-size-mb'; did you mean '--l1-size-gb'?", "--l1-size-mb", "1");
  REFUSED("unknown flag '--chunk-sise=3'; did you mean '--chunk-size'?", REQUIRED, "--chunk-sise=3");
  REFUSED("unknown flag '--zzzzzzzz'", REQUIRED, "--zzzzzzzz");
  REFUSED("unknown flag '--'", REQUIRED, "--");
  REFUSED("unknown flag '--no-port'", REQUIRED, "--no-port");
}

static void refuses_transfers_driven_by_the_server_and_says_why(void **state) {
  (void)state;
  neap__flags *flags;
  REFUSED(
      "--supported-transfer-mode: 'lmcache_driven' is not served, for neap never touches a worker's own memory; "
      "expected engine_driven or auto",
      REQUIRED, "--supported-transfer-mode", "lmcache_driven");
  PARSED(flags, REQUIRED, "--supported-transfer-mode", "engine_driven");
  neap__flags_free(flags);
}

static void accepts_every_flag_of_the_table(void **state) {
  (void)state;
  size_t count;
  const neap__flag *table = neap__flag_table(&count);
  for (size_t i = 0; i < count; i++) {
    char flag[96], negated[96], value[32];
    neap__flags *flags;
    const neap__flag *f = &table[i];
    bool plain = f->kind == NEAP_FLAG_SWITCH || f->kind == NEAP_FLAG_BOOL;
    snprintf(flag, sizeof flag, "--%s", f->name);
    snprintf(negated, sizeof negated, "--no-%s", f->name);
    snprintf(value, sizeof value, "%s", f->fallback ? f->fallback : "1");
    if (f->kind == NEAP_FLAG_CHOICE) snprintf(value, sizeof value, "%.*s", (int)strcspn(f->range, "|"), f->range);
    if (plain)
      PARSED(flags, REQUIRED, flag);
    else
      PARSED(flags, REQUIRED, flag, value);
    assert_true(neap__flags_given(flags, f->name));
    neap__flags_free(flags);
    if (f->kind != NEAP_FLAG_BOOL) continue;
    PARSED(flags, REQUIRED, negated);
    assert_true(neap__flags_given(flags, f->name) && !neap__flags_on(flags, f->name));
    neap__flags_free(flags);
  }
}

static void names_the_pool_as_lmcache_does(void **state) {
  (void)state;
  char name[256], longer[256];
  neap_error err = {""};
  assert_int_equal(neap__pool_name("x", name, sizeof name, &err), 0);
  assert_string_equal(name, "lmcache_l1_pool_x");
  assert_int_equal(neap__pool_name("/x", name, sizeof name, &err), 0);
  assert_string_equal(name, "lmcache_l1_pool_x");
  assert_int_equal(neap__pool_name("lmcache_l1_pool_y", name, sizeof name, &err), 0);
  assert_string_equal(name, "lmcache_l1_pool_y");
  assert_int_equal(neap__pool_name("", name, sizeof name, &err), 0);
  assert_string_equal(name, "");
  assert_int_equal(neap__pool_name("a/b", name, sizeof name, &err), NEAP_EINVAL);
  memset(longer, 'x', sizeof longer - 1);
  longer[sizeof longer - 1] = '\0';
  assert_int_equal(neap__pool_name(longer, name, sizeof name, &err), NEAP_EINVAL);
}

/* --- documents ---------------------------------------------------------------------------------------------------- */

static char *read_file(FILE *in) {
  char *text = calloc(1, 262144);
  assert_non_null(in);
  assert_true(fread(text, 1, 262143, in) > 0);
  fclose(in);
  return text;
}

/* Counts the lines of text that begin with `head` and then name this flag. */
static uint32_t mentions(const char *text, const char *head, const char *name) {
  uint32_t found = 0;
  size_t head_bytes = strlen(head), name_bytes = strlen(name);
  for (const char *line = text; line; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncmp(line, head, head_bytes) != 0 || strncmp(line + head_bytes, name, name_bytes) != 0) continue;
    if (strchr(" \n,", line[head_bytes + name_bytes])) found++;
  }
  return found;
}

static uint32_t lines_with(const char *text, const char *head) {
  uint32_t found = 0;
  for (const char *line = text; line; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncmp(line, head, strlen(head)) == 0) found++;
  }
  return found;
}

static void the_man_page_and_help_list_exactly_the_flags_of_the_table(void **state) {
  (void)state;
  size_t count;
  const neap__flag *table = neap__flag_table(&count);
  char *man = read_file(fopen("engine/man/neap-server.1", "r")), *help = NULL;
  size_t bytes, negatable = 0;
  FILE *out = open_memstream(&help, &bytes);
  neap__flags_print_help(out);
  fclose(out);
  for (size_t i = 0; i < count; i++) {
    char negated[96];
    snprintf(negated, sizeof negated, "no-%s", table[i].name);
    if (mentions(man, ".It Fl -", table[i].name) != 1) fail_msg("neap-server(1) and --%s", table[i].name);
    if (mentions(help, "  --", table[i].name) != 1) fail_msg("--help and --%s", table[i].name);
    if (table[i].kind != NEAP_FLAG_BOOL) continue;
    negatable++;
    if (mentions(man, ".It Fl -", negated) != 1) fail_msg("neap-server(1) and --%s", negated);
  }
  assert_int_equal(lines_with(man, ".It Fl -"), count + negatable + 1); /* and --help */
  assert_int_equal(lines_with(help, "  --"), count + 1);
  free(man);
  free(help);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(takes_the_defaults_of_lmcache),
      cmocka_unit_test(takes_a_value_behind_a_blank_or_an_equals_sign),
      cmocka_unit_test(the_last_one_of_a_repeated_flag_counts),
      cmocka_unit_test(collects_lists_in_the_order_given),
      cmocka_unit_test(names_flag_value_and_expectation_of_what_it_refuses),
      cmocka_unit_test(suggests_the_nearest_name_for_an_unknown_flag),
      cmocka_unit_test(refuses_transfers_driven_by_the_server_and_says_why),
      cmocka_unit_test(accepts_every_flag_of_the_table),
      cmocka_unit_test(names_the_pool_as_lmcache_does),
      cmocka_unit_test(the_man_page_and_help_list_exactly_the_flags_of_the_table),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
