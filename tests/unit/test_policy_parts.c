/* SPDX-License-Identifier: MIT
 *
 * What policies are made of, each against the plainest thing that does the same: heap, history, sketch, sampler. */
#include <string.h>

#include "policies/heap.h"
#include "policies/history.h"
#include "policies/sampler.h"
#include "policies/sketch.h"
#include "policies/splitmix.h"
#include "support/policies.h"
#include "support/random.h"

#define ITEMS 40u

static uint64_t seed;

static int seed_setup(void **state) {
  (void)state;
  seed = random_seed("policy parts");
  return 0;
}

static void the_heap_has_the_smallest_rank_first_and_of_equal_ones_the_oldest(void **state) {
  (void)state;
  neap__heap heap = {.turn = UINT32_MAX - 1000}; /* turns wrap on the way */
  struct {
    bool in;
    double rank;
    uint64_t turn;
  } plain[ITEMS] = {0};
  assert_true(neap__heap_open(&heap, ITEMS));
  for (uint64_t turn = 1; turn < 20000; turn++) {
    uint32_t item = random_below(&seed, ITEMS);
    if (random_below(&seed, 3)) {
      plain[item].in = true, plain[item].rank = random_below(&seed, 8), plain[item].turn = turn;
      neap__heap_put(&heap, item, plain[item].rank);
    } else {
      plain[item].in = false;
      neap__heap_take(&heap, item);
    }
    uint32_t best = ITEMS, count = 0;
    for (uint32_t i = 0; i < ITEMS; i++) {
      count += plain[i].in;
      if (plain[i].in && (best == ITEMS || plain[i].rank < plain[best].rank ||
                          (plain[i].rank == plain[best].rank && plain[i].turn < plain[best].turn)))
        best = i;
    }
    assert_int_equal(heap.count, count);
    if (count != 0) assert_int_equal(heap.entries[0].item, best);
  }
  neap__heap_close(&heap);
}

static neap_event named(uint32_t name) { return (neap_event){.h1 = name, .h2 = ~name, .tenant = name % 2}; }

static void the_history_knows_the_names_last_remembered(void **state) {
  (void)state;
  enum { MOST = 10 };
  neap__history history;
  uint32_t names[MOST + 1], count = 0; /* oldest first */
  assert_true(neap__history_open(&history, neap__history_room(MOST)));
  for (int step = 0; step < 20000; step++) {
    uint32_t name = random_below(&seed, 3 * MOST);
    neap_event ev = named(name), other = ev;
    uint32_t at = 0;
    while (at < count && names[at] != name) at++;
    other.tenant++;
    assert_int_equal(neap__history_find(&history, &other), 0); /* the same hash, not the same object */
    assert_int_equal(neap__history_find(&history, &ev) != 0, at < count);
    if (at == count && random_below(&seed, 2)) {
      if (count == MOST + 1) memmove(names, names + 1, --count * sizeof(names[0]));
      names[count++] = name;
      neap__history_remember(&history, &ev);
      continue;
    }
    assert_int_equal(neap__history_arrive(&history, &ev, MOST), at < count);
    if (at < count) memmove(names + at, names + at + 1, (--count - at) * sizeof(names[0]));
    if (count > MOST) memmove(names, names + 1, --count * sizeof(names[0]));
  }
  assert_int_equal(neap__history_count(&history), count);
  neap__history_close(&history);
}

static void a_history_without_room_remembers_nothing(void **state) {
  (void)state;
  neap__history history;
  neap_event ev = named(1);
  assert_true(neap__history_open(&history, neap__history_room(0)));
  neap__history_remember(&history, &ev);
  assert_false(neap__history_arrive(&history, &ev, 0));
  neap__history_close(&history);
}

static void the_sketch_estimates_never_less_and_seldom_more(void **state) {
  (void)state;
  enum { NAMES = 2000 };
  static uint32_t counts[NAMES];
  neap__sketch sketch;
  assert_true(neap__sketch_open(&sketch, NAMES));
  memset(counts, 0, sizeof(counts));
  for (int n = 0; n < 20000; n++) {
    uint32_t name = random_below(&seed, NAMES);
    counts[name]++;
    neap__sketch_add(&sketch, name, name / 7);
  }
  uint32_t more = 0;
  for (uint32_t name = 0; name < NAMES; name++) {
    uint32_t estimate = neap__sketch_estimate(&sketch, name, name / 7);
    assert_true(estimate >= counts[name]);
    more += estimate > counts[name];
  }
  assert_true(more < NAMES / 50); /* one in a thousand is promised */
  neap__sketch_halve(&sketch);
  for (uint32_t name = 0; name < NAMES; name++)
    assert_true(neap__sketch_estimate(&sketch, name, name / 7) >= counts[name] / 2);
  for (int n = 0; n < 70000; n++) neap__sketch_add(&sketch, 1, 1);
  assert_int_equal(neap__sketch_estimate(&sketch, 1, 1), UINT16_MAX);
  neap__sketch_close(&sketch);
}

/* Vectors of the generator's authors for seed 1234567. */
static void random_numbers_are_those_of_splitmix64(void **state) {
  (void)state;
  uint64_t at = 1234567;
  static const uint64_t expected[] = {UINT64_C(6457827717110365317), UINT64_C(3203168211198807973),
                                      UINT64_C(9817491932198370423)};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(expected); i++) {
    assert_int_equal(neap__mix64(at), expected[i]);
    assert_int_equal(neap__random_below(&at, 10), (expected[i] >> 32) * 10 >> 32);
  }
}

static void the_sampler_holds_a_set(void **state) {
  (void)state;
  neap__sampler sampler;
  bool in[ITEMS] = {false};
  assert_true(neap__sampler_open(&sampler, ITEMS));
  for (int step = 0; step < 20000; step++) {
    uint32_t slot = random_below(&seed, ITEMS), count = 0;
    in[slot] = random_below(&seed, 2);
    in[slot] ? neap__sampler_add(&sampler, slot) : neap__sampler_remove(&sampler, slot);
    for (uint32_t i = 0; i < ITEMS; i++) count += in[i];
    assert_int_equal(sampler.count, count);
    for (uint32_t i = 0; i < count; i++) assert_true(in[sampler.slots[i]]); /* distinct, for there are as many */
  }
  neap__sampler_close(&sampler);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_heap_has_the_smallest_rank_first_and_of_equal_ones_the_oldest),
      cmocka_unit_test(the_history_knows_the_names_last_remembered),
      cmocka_unit_test(a_history_without_room_remembers_nothing),
      cmocka_unit_test(the_sketch_estimates_never_less_and_seldom_more),
      cmocka_unit_test(random_numbers_are_those_of_splitmix64),
      cmocka_unit_test(the_sampler_holds_a_set),
  };
  return cmocka_run_group_tests(tests, seed_setup, NULL);
}
