/* SPDX-License-Identifier: MIT
 *
 * The arena against a naive model: one word per unit that names its owner, searched from end to end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "l1/arena.h"
#include "support/random.h"

#define UNITS_MAX 700u
#define SLOTS_MAX 96u
#define FREE UINT32_MAX

typedef struct model {
  neap__arena *arena;
  uint32_t units, slots;
  uint32_t owner[UNITS_MAX];  /* unit -> slot, or FREE */
  uint32_t length[SLOTS_MAX]; /* slot -> units, 0: not in use */
  bool movable[SLOTS_MAX];
  uint64_t seed;
} model;

static void model_open(model *m, uint32_t units, uint32_t slots) {
  m->units = units;
  m->slots = slots;
  memset(m->owner, 0xff, sizeof m->owner);
  memset(m->length, 0, sizeof m->length);
  assert_int_equal(neap__arena_open(units, slots, &m->arena), 0);
  neap__arena_rebuilt(m->arena);
}

static uint32_t slots_used(const model *m) {
  uint32_t used = 0;
  for (uint32_t s = 0; s < m->slots; s++) used += m->length[s] != 0;
  return used;
}

/* The stretch that begins at `at`: one slot's units, or all free ones up to the next slot. */
static uint32_t stretch(const model *m, uint32_t at) {
  uint32_t end = at + 1;
  while (end < m->units && m->owner[end] == m->owner[at]) end++;
  return end - at;
}

static uint32_t largest_free(const model *m) {
  uint32_t largest = 0;
  for (uint32_t at = 0; at < m->units; at += stretch(m, at))
    if (m->owner[at] == FREE) largest = NEAP_MAX(largest, stretch(m, at));
  return largest;
}

static void compare(const model *m) {
  neap_error err = {""};
  uint64_t used = 0;
  uint32_t high = 0;
  for (uint32_t s = 0; s < m->slots; s++) {
    used += m->length[s];
    if (m->length[s]) high = s + 1;
  }
  if (neap__arena_check(m->arena, &err) != 0) fail_msg("%s", err.text);
  assert_int_equal(neap__arena_used_units(m->arena), used);
  assert_int_equal(neap__arena_largest_free(m->arena), largest_free(m));
  assert_true(neap__arena_slots_high(m->arena) >= high);
  assert_true(neap__arena_slots_high(m->arena) <= m->slots);
}

static void take(model *m, uint32_t units) {
  uint32_t slot = FREE, first = FREE;
  int expected = slots_used(m) == m->slots ? NEAP_ELIMIT : largest_free(m) < units ? NEAP_ENOSPC : 0;
  assert_int_equal(neap__arena_take(m->arena, units, &slot, &first), expected);
  if (expected) return;
  assert_true(slot < m->slots);
  assert_int_equal(m->length[slot], 0);
  assert_true(first < m->units && units <= m->units - first);
  m->length[slot] = units;
  for (uint32_t i = first; i < first + units; i++) {
    assert_int_equal(m->owner[i], FREE);
    m->owner[i] = slot;
  }
}

static void give(model *m, uint32_t slot) {
  neap__arena_give(m->arena, slot);
  m->length[slot] = 0;
  for (uint32_t i = 0; i < m->units; i++)
    if (m->owner[i] == slot) m->owner[i] = FREE;
}

static bool is_movable(void *ctx, uint32_t slot) {
  const model *m = ctx;
  assert_true(slot < m->slots && m->length[slot] != 0);
  return m->movable[slot];
}

/* The fewest occupied units of any window, by trying each; UINT32_MAX if there is none. */
static uint32_t cheapest_window(const model *m, uint32_t units, uint32_t max) {
  uint32_t best = UINT32_MAX;
  for (uint32_t left = 0; left < m->units; left += stretch(m, left)) {
    uint32_t cost = 0, count = 0;
    for (uint32_t at = left; at < m->units; at += stretch(m, at)) {
      if (m->owner[at] != FREE) {
        if (!m->movable[m->owner[at]]) break;
        cost += stretch(m, at);
        count++;
      }
      if (at + stretch(m, at) - left >= units && count <= max) best = NEAP_MIN(best, cost);
    }
  }
  return best;
}

static void window(model *m) {
  uint32_t slots[SLOTS_MAX], units = 1 + random_below(&m->seed, random_below(&m->seed, 4) ? 40 : m->units);
  uint32_t max = random_below(&m->seed, 3) ? SLOTS_MAX : 1 + random_below(&m->seed, 4), cost = 0;
  uint32_t pinned = random_below(&m->seed, 101);
  for (uint32_t s = 0; s < m->slots; s++) m->movable[s] = random_below(&m->seed, 100) >= pinned;
  uint32_t count = neap__arena_window(m->arena, units, is_movable, m, slots, max);
  uint32_t best = cheapest_window(m, units, max);
  assert_true(count <= max);
  if (best == 0 || best == UINT32_MAX) {
    assert_int_equal(count, 0);
    return;
  }
  assert_true(count > 0);
  for (uint32_t i = 0; i < count; i++) {
    assert_true(m->movable[slots[i]]);
    cost += m->length[slots[i]];
  }
  assert_int_equal(cost, best);
  for (uint32_t i = 0; i < count; i++) give(m, slots[i]);
  assert_true(largest_free(m) >= units);
}

/* As after a restart: a new arena learns from the model who has what. */
static void rebuild(model *m) {
  neap__arena_close(m->arena);
  assert_int_equal(neap__arena_open(m->units, m->slots, &m->arena), 0);
  for (uint32_t at = 0; at < m->units; at += stretch(m, at))
    if (m->owner[at] != FREE)
      assert_int_equal(neap__arena_claim(m->arena, m->owner[at], at, m->length[m->owner[at]]), 0);
  neap__arena_rebuilt(m->arena);
}

static uint32_t some_units(model *m) {
  switch (random_below(&m->seed, 4)) {
    case 0: return 1 + random_below(&m->seed, 3);
    case 1: return 16;
    case 2: return 1 + random_below(&m->seed, 60);
    default: return 1 + random_below(&m->seed, m->units + 10);
  }
}

static void step(model *m, uint32_t takes) {
  uint32_t dice = random_below(&m->seed, 100), slot = random_below(&m->seed, m->slots);
  if (dice < takes)
    take(m, some_units(m));
  else if (dice < 97)
    m->length[slot] ? give(m, slot) : take(m, 1);
  else if (dice < 99)
    window(m);
  else
    rebuild(m);
  compare(m);
}

static void random_use_agrees_with_a_map_of_units(void **state) {
  static model m;
  (void)state;
  m.seed = random_seed("arena");
  for (int round = 0; round < 60; round++) {
    model_open(&m, 1 + random_below(&m.seed, UNITS_MAX), 1 + random_below(&m.seed, SLOTS_MAX));
    compare(&m);
    for (int i = 0; i < 400; i++) step(&m, i / 100 % 2 ? 20 : 70);
    for (uint32_t s = 0; s < m.slots; s++)
      if (m.length[s]) give(&m, s);
    compare(&m);
    assert_int_equal(neap__arena_largest_free(m.arena), m.units);
    neap__arena_close(m.arena);
  }
}

static void objects_of_one_size_fill_the_pool_again_and_again(void **state) {
  static model m;
  (void)state;
  model_open(&m, 90 * 7, SLOTS_MAX);
  m.seed = random_seed("arena");
  for (int round = 0; round < 20; round++) {
    while (slots_used(&m) < 90) take(&m, 7);
    take(&m, 1); /* is refused */
    compare(&m);
    for (uint32_t s = 0; s < m.slots; s++)
      if (m.length[s] && random_below(&m.seed, 2)) give(&m, s);
    compare(&m);
  }
  neap__arena_close(m.arena);
}

static void a_claim_that_overlaps_or_leaves_the_pool_is_refused(void **state) {
  (void)state;
  neap__arena *arena;
  neap_error err = {""};
  assert_int_equal(neap__arena_open(100, 8, &arena), 0);
  assert_int_equal(neap__arena_claim(arena, 3, 10, 20), 0);
  assert_int_equal(neap__arena_claim(arena, 4, 29, 5), NEAP_ECORRUPT);
  assert_int_equal(neap__arena_claim(arena, 4, 30, 0), NEAP_ECORRUPT);
  assert_int_equal(neap__arena_claim(arena, 4, 30, 71), NEAP_ECORRUPT);
  assert_int_equal(neap__arena_claim(arena, 4, 101, 1), NEAP_ECORRUPT);
  assert_int_equal(neap__arena_claim(arena, 4, UINT32_MAX, 2), NEAP_ECORRUPT);
  assert_int_equal(neap__arena_claim(arena, 4, 40, UINT32_MAX), NEAP_ECORRUPT);
  assert_int_equal(neap__arena_claim(arena, 0, 30, 70), 0);
  neap__arena_rebuilt(arena);
  if (neap__arena_check(arena, &err) != 0) fail_msg("%s", err.text);
  assert_int_equal(neap__arena_used_units(arena), 90);
  assert_int_equal(neap__arena_largest_free(arena), 10);
  neap__arena_close(arena);
}

static void a_pool_of_the_greatest_size_is_one_free_extent(void **state) {
  (void)state;
  neap__arena *arena;
  uint32_t slot, first, other;
  assert_int_equal(neap__arena_open(UINT32_MAX - 1, 2, &arena), 0);
  neap__arena_rebuilt(arena);
  assert_int_equal(neap__arena_largest_free(arena), UINT32_MAX - 1);
  assert_int_equal(neap__arena_take(arena, UINT32_MAX, &slot, &first), NEAP_ENOSPC);
  assert_int_equal(neap__arena_take(arena, UINT32_MAX - 2, &slot, &first), 0);
  assert_int_equal(neap__arena_take(arena, 1, &other, &first), 0);
  assert_int_equal(first, UINT32_MAX - 2);
  neap__arena_give(arena, slot);
  neap__arena_give(arena, other);
  assert_int_equal(neap__arena_check(arena, NULL), 0);
  assert_int_equal(neap__arena_largest_free(arena), UINT32_MAX - 1);
  neap__arena_close(arena);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(random_use_agrees_with_a_map_of_units),
      cmocka_unit_test(objects_of_one_size_fill_the_pool_again_and_again),
      cmocka_unit_test(a_claim_that_overlaps_or_leaves_the_pool_is_refused),
      cmocka_unit_test(a_pool_of_the_greatest_size_is_one_free_extent),
  };
  return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
