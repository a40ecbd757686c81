/* SPDX-License-Identifier: MIT
 *
 * What is made of the times that operations took. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "l2/pace.h"

static void expect(const neap__pace *p, double first_us, double us_per_mib) {
  double first, slope;
  neap__pace_get(p, &first, &slope);
  assert_true(fabs(first - first_us) <= 1e-6 * (1 + first_us));
  assert_true(fabs(slope - us_per_mib) <= 1e-6 * (1 + us_per_mib));
}

static void what_is_on_a_line_is_found_again(void **state) {
  (void)state;
  neap__pace p = {0};
  expect(&p, 0, 0);
  for (int i = 0; i < 50; i++) neap__pace_note(&p, 1 + i % 7, 300 + 40 * (1 + i % 7));
  expect(&p, 300, 40);
}

static void one_size_tells_only_the_whole(void **state) {
  (void)state;
  neap__pace p = {0};
  for (int i = 0; i < 50; i++) neap__pace_note(&p, 2, 500);
  expect(&p, 0, 250);
}

static void nothing_is_negative(void **state) {
  (void)state;
  neap__pace faster = {0}, bent = {0};
  for (int i = 0; i < 50; i++) { /* the larger the quicker; and a line that begins below zero */
    neap__pace_note(&faster, 1 + i % 2, 300 - 100 * (i % 2));
    neap__pace_note(&bent, 1 + i % 2, 10 + 90 * (i % 2));
  }
  double first, slope;
  neap__pace_get(&faster, &first, &slope);
  assert_true(slope == 0 && first > 200 && first < 300);
  neap__pace_get(&bent, &first, &slope);
  assert_true(first == 0 && slope > 30 && slope < 50);
}

static void the_past_fades(void **state) {
  (void)state;
  neap__pace p = {0};
  for (int i = 0; i < 1000; i++) neap__pace_note(&p, 1 + i % 3, 9000 + 900 * (i % 3));
  for (int i = 0; i < 1000; i++) neap__pace_note(&p, 1 + i % 3, 10 + 5 * (1 + i % 3));
  expect(&p, 10, 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_on_a_line_is_found_again),
      cmocka_unit_test(one_size_tells_only_the_whole),
      cmocka_unit_test(nothing_is_negative),
      cmocka_unit_test(the_past_fades),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
