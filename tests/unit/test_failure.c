/* SPDX-License-Identifier: MIT
 *
 * What stores on files say about system calls that fail: once for each burst of one kind. */
#include "../adapters/common/failure.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)

static uint64_t now;
static uint32_t lines;
static char last[1024];

static uint64_t now_ns(void *engine) {
  (void)engine;
  return now;
}

static void log_line(void *engine, neap_log_level level, const char *text) {
  (void)engine;
  assert_int_equal(level, NEAP_WARNING);
  snprintf(last, sizeof last, "%s", text);
  lines++;
}

static const neap_host host = {.size = sizeof(neap_host), .log = log_line, .now_ns = now_ns};

static void a_burst_of_one_kind_is_one_line(void **state) {
  (void)state;
  neap__failures failures;
  neap__failures_init(&failures);
  now = 100 * SECOND;
  neap__failures_say(&failures, &host, "cannot store", "a.data", ENOSPC);
  assert_string_equal(last, "cannot store a.data: No space left on device");
  now += 10 * SECOND - 1;
  for (int i = 0; i < 3; i++) neap__failures_say(&failures, &host, "cannot store", "b.data", ENOSPC);
  assert_int_equal(lines, 1);
  now += 1;
  neap__failures_say(&failures, &host, "cannot store", "c.data", ENOSPC);
  assert_string_equal(last, "cannot store c.data: No space left on device (3 more failures since the last such line)");
  neap__failures_say(&failures, &host, "cannot load", "d.data", EIO);
  assert_string_equal(last, "cannot load d.data: Input/output error");
  assert_int_equal(lines, 3);
  neap__failures_destroy(&failures);
}

static void a_full_disk_is_told_from_one_that_fails(void **state) {
  (void)state;
  assert_int_equal(neap__failure_code(ENOSPC), NEAP_ENOSPC);
  assert_int_equal(neap__failure_code(EDQUOT), NEAP_ENOSPC);
  assert_int_equal(neap__failure_code(EROFS), NEAP_EPERM);
  assert_int_equal(neap__failure_code(ENOMEM), NEAP_ENOMEM);
  assert_int_equal(neap__failure_code(EMFILE), NEAP_ELIMIT);
  assert_int_equal(neap__failure_code(EIO), NEAP_EIO);
  assert_int_equal(neap__failure_code(ENOTDIR), NEAP_EIO);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_burst_of_one_kind_is_one_line),
      cmocka_unit_test(a_full_disk_is_told_from_one_that_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
