/* SPDX-License-Identifier: MIT
 *
 * Error codes, error sentences, "did you mean" and log lines. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"

static void every_code_has_its_own_name_and_sentence(void **state) {
  (void)state;
  int codes[] = {NEAP_OK,
#define XX(name, number, text) NEAP_##name,
                 NEAP_ERR_MAP(XX)
#undef XX
  };
  for (size_t i = 0; i < NEAP_ARRAY_LEN(codes); i++) {
    assert_int_equal(strncmp(neap_err_name(codes[i]), "NEAP_", 5), 0);
    assert_string_not_equal(neap_strerror(codes[i]), neap_strerror(-999));
    for (size_t j = 0; j < i; j++) {
      assert_string_not_equal(neap_err_name(codes[i]), neap_err_name(codes[j]));
      assert_string_not_equal(neap_strerror(codes[i]), neap_strerror(codes[j]));
    }
  }
  assert_string_equal(neap_err_name(NEAP_EIO), "NEAP_EIO");
  assert_string_equal(neap_err_name(NEAP_EPERM), "NEAP_EPERM");
  assert_string_equal(neap_strerror(NEAP_EINVAL), "invalid argument");
}

static void a_code_nobody_defined_still_has_words(void **state) {
  (void)state;
  assert_string_equal(neap_err_name(12345), "NEAP_UNKNOWN");
  assert_string_equal(neap_strerror(-12345), "unknown error");
}

static void fail_writes_the_sentence_and_returns_the_code(void **state) {
  (void)state;
  neap_error err = {""};
  assert_int_equal(neap__fail(&err, NEAP_ENOSPC, "%s: %d of %d", "l1", 3, 2), NEAP_ENOSPC);
  assert_string_equal(err.text, "l1: 3 of 2");
  assert_int_equal(neap__fail(NULL, NEAP_EIO, "nobody reads this"), NEAP_EIO);
}

static void fail_cuts_a_long_sentence_and_terminates_it(void **state) {
  (void)state;
  struct {
    neap_error err;
    char guard;
  } box = {.guard = 'g'};
  char text[2 * NEAP_ERROR_BYTES];
  memset(text, 'x', sizeof(text));
  text[sizeof(text) - 1] = '\0';
  neap__fail(&box.err, NEAP_EIO, "%s", text);
  assert_int_equal(strlen(box.err.text), NEAP_ERROR_BYTES - 1);
  assert_int_equal(box.guard, 'g');
}

static void nearest_finds_what_was_meant(void **state) {
  (void)state;
  const char *names[] = {"max_bytes", NULL, "base_path", "max_keys", "timeout_ms"};
  const size_t n = NEAP_ARRAY_LEN(names);
  assert_string_equal(neap__nearest("max_byte", names, n), "max_bytes");
  assert_string_equal(neap__nearest("MAX_BYTES", names, n), "max_bytes");
  assert_string_equal(neap__nearest("max_btyes", names, n), "max_bytes");
  assert_string_equal(neap__nearest("bse_pth", names, n), "base_path");
  assert_string_equal(neap__nearest("timeoutms", names, n), "timeout_ms");
  assert_string_equal(neap__nearest("max_key", names, n), "max_keys");
  assert_string_equal(neap__nearest("max_keys", names, n), "max_keys");
}

static void nearest_does_not_guess_wildly(void **state) {
  (void)state;
  const char *names[] = {"max_bytes", "fs", "a"};
  assert_null(neap__nearest("temperature", names, NEAP_ARRAY_LEN(names)));
  assert_null(neap__nearest("xyz", names, NEAP_ARRAY_LEN(names)));
  assert_null(neap__nearest("", names, 2));
  assert_null(neap__nearest("anything", names, 0));
  char longest[300];
  memset(longest, 'm', sizeof(longest));
  longest[sizeof(longest) - 1] = '\0';
  assert_null(neap__nearest(longest, names, NEAP_ARRAY_LEN(names)));
  const char *long_name[] = {longest};
  assert_null(neap__nearest("mmmmmm", long_name, 1));
}

/* Runs body in a child with stderr on a pipe; returns what it wrote and stores its wait status. */
static size_t stderr_of(void (*body)(void), char *out, size_t cap, int *status) {
  int ends[2];
  size_t used = 0;
  assert_int_equal(pipe(ends), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    signal(SIGABRT, SIG_DFL);
    body();
    _exit(0);
  }
  close(ends[1]);
  for (ssize_t n; used < cap - 1 && (n = read(ends[0], out + used, cap - 1 - used)) > 0;) used += (size_t)n;
  out[used] = '\0';
  close(ends[0]);
  assert_int_equal(waitpid(child, status, 0), child);
  return used;
}

static void log_three(void) {
  neap__log_set_level(NEAP_INFO);
  NEAP_LOG_DEBUG("not to be seen");
  NEAP_LOG_INFO("chunk %d of %s", 7, "m");
  neap__log(NEAP_ERROR, "/some/where/else.c", 12, "two\nlines \033[31m");
}

static void a_log_line_has_time_level_text_and_source(void **state) {
  (void)state;
  char out[8192], level[16] = "", rest[256] = "";
  int status, year, month, day, hour, minute, second, milli, end = 0;
  stderr_of(log_three, out, sizeof(out), &status);
  assert_int_equal(status, 0);

  char *second_line = strchr(out, '\n');
  assert_non_null(second_line);
  *second_line++ = '\0';
  int fields = sscanf(out, "[%4d-%2d-%2d %2d:%2d:%2d,%3d] neap %15[A-Z]: %255[^\n]%n", &year, &month, &day, &hour,
                      &minute, &second, &milli, level, rest, &end);
  assert_int_equal(fields, 9);
  assert_int_equal((size_t)end, strlen(out));
  assert_string_equal(level, "INFO");
  assert_int_equal(strncmp(rest, "chunk 7 of m (test_error.c:", 27), 0);
  char *text = strstr(second_line, "] neap ");
  assert_non_null(text);
  assert_string_equal(text, "] neap ERROR: two lines  [31m (else.c:12)\n");
}

static void log_too_much(void) {
  static char text[100000];
  memset(text, 'y', sizeof(text) - 1);
  NEAP_LOG_WARN("%s", text);
}

static void a_log_line_that_is_too_long_keeps_its_end(void **state) {
  (void)state;
  static char out[200000];
  int status;
  size_t bytes = stderr_of(log_too_much, out, sizeof(out), &status);
  assert_int_equal(status, 0);
  assert_true(bytes <= 4096 && bytes > 4000);
  char *where = strstr(out, "y (test_error.c:");
  assert_non_null(where);
  assert_int_equal(out[bytes - 1], '\n');
}

static void log_into_a_full_pipe(int full, int done) {
  char byte = 0;
  dup2(full, STDERR_FILENO);
  neap__log_writer_start();
  for (int i = 0; i < 20000; i++) NEAP_LOG_WARN("line %d of more than pipe and buffers hold", i);
  if (write(done, &byte, 1) != 1) _exit(1);
  for (int i = 0; i < 30; i++) neap__log_flush(); /* each waits for a second at most */
  NEAP_LOG_WARN("somebody reads again");
  neap__log_writer_stop();
  _exit(0);
}

static void a_log_that_nobody_reads_loses_lines_and_says_so(void **state) {
  (void)state;
  static char out[1 << 20];
  int full[2], done[2], status;
  size_t bytes = 0;
  char byte = 0;
  assert_true(pipe(full) == 0 && pipe(done) == 0);
  pid_t child = fork();
  if (child == 0) log_into_a_full_pipe(full[1], done[1]);
  close(full[1]);
  alarm(60); /* a logger that waits for a reader would wait for ever */
  assert_int_equal(read(done[0], &byte, 1), 1);
  for (ssize_t n; (n = read(full[0], out + bytes, sizeof(out) - 1 - bytes)) > 0;) bytes += (size_t)n;
  alarm(0);
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  assert_non_null(strstr(out, "line 0 of"));
  assert_non_null(strstr(out, " log lines were lost: nobody read them (log.c)\n"));
  assert_non_null(strstr(out, "somebody reads again"));
  close(full[0]);
  for (int i = 0; i < 2; i++) close(done[i]);
}

static void break_a_promise(void) { NEAP_ASSERT(1 + 1 == 3); }

static void a_broken_promise_names_itself_and_ends_the_program(void **state) {
  (void)state;
  char out[8192];
  int status;
  stderr_of(break_a_promise, out, sizeof(out), &status);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  assert_non_null(strstr(out, "neap ERROR: internal promise broken: 1 + 1 == 3 (test_error.c:"));
}

static void the_clocks_agree_with_the_system(void **state) {
  (void)state;
  int64_t before = (int64_t)time(NULL);
  int64_t wall = neap__unix_s();
  assert_true(wall >= before - 1 && wall <= (int64_t)time(NULL) + 1);
  uint64_t earlier = neap__now_ns();
  for (int i = 0; i < 1000; i++) {
    uint64_t later = neap__now_ns();
    assert_true(later >= earlier);
    earlier = later;
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_code_has_its_own_name_and_sentence),
      cmocka_unit_test(a_code_nobody_defined_still_has_words),
      cmocka_unit_test(fail_writes_the_sentence_and_returns_the_code),
      cmocka_unit_test(fail_cuts_a_long_sentence_and_terminates_it),
      cmocka_unit_test(nearest_finds_what_was_meant),
      cmocka_unit_test(nearest_does_not_guess_wildly),
      cmocka_unit_test(a_log_line_has_time_level_text_and_source),
      cmocka_unit_test(a_log_line_that_is_too_long_keeps_its_end),
      cmocka_unit_test(a_log_that_nobody_reads_loses_lines_and_says_so),
      cmocka_unit_test(a_broken_promise_names_itself_and_ends_the_program),
      cmocka_unit_test(the_clocks_agree_with_the_system),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
