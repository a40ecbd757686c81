/* SPDX-License-Identifier: MIT
 *
 * Registrations: what is kept, what is refused, what a second process finds in the annex, who is told to come back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "l1/l1.h"
#include "serve/instance.h"

enum { CHUNK = 4 };

typedef struct fixture {
  neap__l1 *l1;
  neap__instances all;
} fixture;

static neap__text text(const char *word) { return (neap__text){.at = word, .bytes = (uint32_t)strlen(word)}; }

static int setup(void **state) {
  fixture *f = calloc(1, sizeof(*f));
  neap__l1_config config = {.pool_bytes = 1 << 20, .align_bytes = 4096, .chunk_tokens = CHUNK};
  neap__l1_report report;
  neap__log_set_level(NEAP_ERROR);
  if (neap__l1_open(&config, &f->l1, &report, NULL)) return -1;
  *state = f;
  return neap__instances_open(&f->all, f->l1, CHUNK, 0);
}

static int teardown(void **state) {
  fixture *f = *state;
  neap__instances_close(&f->all);
  neap__l1_close(f->l1, false);
  free(f);
  return 0;
}

static neap__registration worker(uint64_t id, const char *model, uint64_t layers) {
  return (neap__registration){.instance_id = id,
                              .model = text(model),
                              .dtype = text("bfloat16"),
                              .world_size = 1,
                              .block_size = 2,
                              .layers = layers,
                              .hidden = 64,
                              .one_plane = true};
}

static int add(fixture *f, const neap__registration *reg, bool *same) {
  neap__instance *instance;
  neap_error err = {{0}};
  int code = neap__instances_register(&f->all, reg, 0, &instance, same, &err);
  if (code && code != NEAP_EEXIST) assert_true(err.text[0] != '\0');
  return code;
}

static uint32_t spaces_of(fixture *f, const char *model) {
  uint32_t spaces[8];
  return neap__instances_spaces(&f->all, text(model), 1, spaces, 8);
}

static void a_layout_has_one_or_two_planes(void **state) {
  fixture *f = *state;
  neap__registration reg = worker(1, "m", 3);
  assert_int_equal(add(f, &reg, NULL), 0);
  assert_int_equal(neap__instances_find(&f->all, 1)->slot_bytes, 3 * CHUNK * 64 * 2);
  reg.instance_id = 2;
  reg.one_plane = false;
  assert_int_equal(add(f, &reg, NULL), 0);
  assert_int_equal(neap__instances_find(&f->all, 2)->slot_bytes, 2 * 3 * CHUNK * 64 * 2);
  reg.instance_id = 3;
  reg.slots = 2 * CHUNK;
  assert_int_equal(add(f, &reg, NULL), 0);
  assert_int_equal(neap__instances_find(&f->all, 3)->slot_bytes, 4 * 3 * CHUNK * 64 * 2);
}

static void the_first_registration_of_an_id_stays(void **state) {
  fixture *f = *state;
  bool same;
  neap__registration reg = worker(1, "m", 2);
  assert_int_equal(add(f, &reg, NULL), 0);
  assert_int_equal(add(f, &reg, &same), NEAP_EEXIST);
  assert_true(same);
  reg.layers = 4;
  assert_int_equal(add(f, &reg, &same), NEAP_EEXIST);
  assert_false(same);
  assert_int_equal(neap__instances_find(&f->all, 1)->slot_bytes, 2 * CHUNK * 64 * 2);
}

static void absurd_layouts_are_refused(void **state) {
  fixture *f = *state;
  neap__registration reg = worker(1, "m", 0);
  assert_int_equal(add(f, &reg, NULL), NEAP_EINVAL);
  reg = worker(1, "m", INT64_MAX);
  assert_int_equal(add(f, &reg, NULL), NEAP_EINVAL);
  reg = worker(1, "m", 2);
  reg.dtype = text("bfloat17");
  assert_int_equal(add(f, &reg, NULL), NEAP_EINVAL);
  reg.dtype = text("a dtype whose name is longer than any");
  assert_int_equal(add(f, &reg, NULL), NEAP_EINVAL);
  reg.dtype = (neap__text){.at = "int8\0x", .bytes = 6};
  assert_int_equal(add(f, &reg, NULL), NEAP_EINVAL);
  assert_null(neap__instances_find(&f->all, 1));
}

static void a_layout_lives_as_long_as_one_of_its_workers(void **state) {
  fixture *f = *state;
  neap__registration first = worker(1, "m", 2), second = worker(2, "m", 2), third = worker(3, "m", 4);
  assert_int_equal(add(f, &first, NULL), 0);
  assert_int_equal(add(f, &second, NULL), 0);
  assert_int_equal(add(f, &third, NULL), 0);
  assert_int_equal(spaces_of(f, "m"), 2);
  assert_int_equal(spaces_of(f, "other"), 0);
  uint32_t space = neap__instances_find(&f->all, 1)->space;
  assert_int_equal(neap__instances_remove(&f->all, neap__instances_find(&f->all, 1)), UINT32_MAX);
  assert_int_equal(neap__instances_remove(&f->all, neap__instances_find(&f->all, 2)), space);
  assert_int_equal(spaces_of(f, "m"), 1);
}

static void the_primary_layout_is_the_first_of_its_model(void **state) {
  fixture *f = *state;
  neap__registration first = worker(1, "m", 2), second = worker(2, "m", 4);
  uint32_t space;
  assert_false(neap__instances_primary(&f->all, text("m"), 1, &space));
  assert_int_equal(add(f, &first, NULL), 0);
  assert_int_equal(add(f, &second, NULL), 0);
  assert_true(neap__instances_primary(&f->all, text("m"), 1, &space));
  assert_int_equal(space, neap__instances_find(&f->all, 1)->space);
  neap__instances_remove(&f->all, neap__instances_find(&f->all, 1));
  assert_true(neap__instances_primary(&f->all, text("m"), 1, &space));
  assert_int_equal(space, neap__instances_find(&f->all, 2)->space);
}

static void the_next_process_knows_who_was_registered(void **state) {
  fixture *f = *state;
  neap__registration first = worker(1, "m", 2), second = worker(2, "m", 2);
  assert_int_equal(add(f, &first, NULL), 0);
  assert_int_equal(add(f, &second, NULL), 0);
  assert_true(neap__instances_ping(&f->all, 2, 0));
  neap__instance before = *neap__instances_find(&f->all, 2);
  neap__instances_remove(&f->all, neap__instances_find(&f->all, 1));
  neap__instances_close(&f->all);
  assert_int_equal(neap__instances_open(&f->all, f->l1, CHUNK, 0), 0);
  assert_null(neap__instances_find(&f->all, 1));
  neap__instance *after = neap__instances_find(&f->all, 2);
  assert_non_null(after);
  assert_int_equal(after->space, before.space);
  assert_int_equal(after->block_size, 2);
  assert_true(after->one_plane);
  assert_true(after->pinged);
  assert_memory_equal(after->slot_tail, before.slot_tail, before.slot_tail_bytes);
  assert_int_equal(spaces_of(f, "m"), 1);
}

static void damaged_records_are_forgotten(void **state) {
  fixture *f = *state;
  neap__registration reg = worker(1, "m", 2);
  size_t bytes;
  assert_int_equal(add(f, &reg, NULL), 0);
  neap__instances_close(&f->all);
  uint8_t *annex = neap__l1_annex(f->l1, &bytes);
  memset(annex + 64, 0xee, 64 * 3); /* the first records */
  assert_int_equal(neap__instances_open(&f->all, f->l1, CHUNK, 0), 0);
  assert_int_equal(f->all.table.count, 0);
  assert_int_equal(add(f, &reg, NULL), 0);
}

static void registrations_are_bounded(void **state) {
  fixture *f = *state;
  for (uint64_t id = 1; id <= NEAP_INSTANCES_MAX; id++) {
    neap__registration reg = worker(id, "m", 2);
    assert_int_equal(add(f, &reg, NULL), 0);
  }
  neap__registration reg = worker(UINT64_MAX, "m", 2);
  assert_int_equal(add(f, &reg, NULL), NEAP_ELIMIT);
  neap__instances_remove(&f->all, neap__instances_find(&f->all, 5));
  assert_int_equal(add(f, &reg, NULL), 0);
}

static void an_unknown_id_is_told_false_once_and_gates_lookups_for_a_while(void **state) {
  fixture *f = *state;
  neap__registration reg = worker(1, "m", 2);
  const uint64_t s = 1000000000u;
  assert_false(neap__instances_gated(&f->all, s));
  assert_false(neap__instances_ping(&f->all, 1, s));
  assert_true(neap__instances_ping(&f->all, 1, 11 * s));
  assert_true(neap__instances_gated(&f->all, 12 * s));
  assert_false(neap__instances_ping(&f->all, 2, 12 * s));
  assert_int_equal(add(f, &reg, NULL), 0);
  assert_true(neap__instances_gated(&f->all, 13 * s));  /* the other one is still away */
  assert_false(neap__instances_gated(&f->all, 43 * s)); /* and given up */
  assert_true(neap__instances_ping(&f->all, 2, 44 * s));
}

static void a_worker_that_unregistered_is_not_told_to_come_back(void **state) {
  fixture *f = *state;
  neap__instances_goodbye(&f->all, 1);
  assert_true(neap__instances_ping(&f->all, 1, 1));
  assert_false(neap__instances_gated(&f->all, 1));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(a_layout_has_one_or_two_planes),
      TEST(the_first_registration_of_an_id_stays),
      TEST(absurd_layouts_are_refused),
      TEST(a_layout_lives_as_long_as_one_of_its_workers),
      TEST(the_primary_layout_is_the_first_of_its_model),
      TEST(the_next_process_knows_who_was_registered),
      TEST(damaged_records_are_forgotten),
      TEST(registrations_are_bounded),
      TEST(an_unknown_id_is_told_false_once_and_gates_lookups_for_a_while),
      TEST(a_worker_that_unregistered_is_not_told_to_come_back),
  };
  return cmocka_run_group_tests_name("registrations", tests, NULL, NULL);
}
