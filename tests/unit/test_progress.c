/* SPDX-License-Identifier: MIT
 *
 * The progress bar: nothing for two seconds, nothing where there is no terminal, no colour under NO_COLOR. */
#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "progress.h"

#define PATIENCE_US 2050000

static int terminal, saved;

static void open_terminal(void) {
  int end = -1;
  assert_int_equal(openpty(&terminal, &end, NULL, NULL, NULL), 0);
  saved = dup(STDERR_FILENO);
  assert_true(dup2(end, STDERR_FILENO) >= 0);
  close(end);
  assert_int_equal(fcntl(terminal, F_SETFL, O_NONBLOCK), 0);
}

static void close_terminal(void) {
  assert_true(dup2(saved, STDERR_FILENO) >= 0);
  close(saved);
  close(terminal);
}

/* What was written since the last call. */
static const char *shown(void) {
  static char text[1024];
  ssize_t n = read(terminal, text, sizeof(text) - 1);
  text[n > 0 ? n : 0] = '\0';
  return text;
}

static void waits_two_seconds_then_draws(void **state) {
  neap__progress p;
  const char *text;
  (void)state;
  setenv("TERM", "xterm", 1);
  unsetenv("NO_COLOR");
  open_terminal();
  neap__progress_open(&p, "reading x");
  neap__progress_say(&p, 10, 100);
  assert_string_equal(shown(), "");
  usleep(PATIENCE_US);
  neap__progress_say(&p, 50, 100);
  text = shown();
  assert_non_null(strstr(text, "reading x \x1b[36m[###############...............]\x1b[0m  50 %, 2 s left"));
  neap__progress_say(&p, 51, 100);
  assert_string_equal(shown(), ""); /* not at every call */
  setenv("NO_COLOR", "1", 1);
  neap__progress_close(&p);
  assert_string_equal(shown(), "\r\x1b[K");
  neap__progress_open(&p, "reading y");
  neap__progress_close(&p);
  assert_string_equal(shown(), ""); /* there was nothing to take away */
  neap__progress_open(&p, "reading z");
  usleep(PATIENCE_US);
  neap__progress_say(&p, 200, 100);
  text = shown();
  assert_non_null(strstr(text, "reading z [##############################] 100 %"));
  usleep(150000);
  neap__progress_say(&p, 4096, 0);
  assert_non_null(strstr(shown(), "reading z: 4096 so far"));
  close_terminal();
}

static void shows_nothing_without_a_terminal(void **state) {
  neap__progress p;
  int ends[2];
  char byte;
  (void)state;
  assert_int_equal(pipe(ends), 0);
  saved = dup(STDERR_FILENO);
  assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
  neap__progress_open(&p, "reading x");
  usleep(PATIENCE_US);
  neap__progress_say(&p, 50, 100);
  neap__progress_close(&p);
  assert_true(dup2(saved, STDERR_FILENO) >= 0);
  close(saved);
  close(ends[1]);
  assert_int_equal(read(ends[0], &byte, 1), 0);
  close(ends[0]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(waits_two_seconds_then_draws),
      cmocka_unit_test(shows_nothing_without_a_terminal),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
