/* SPDX-License-Identifier: MIT
 *
 * Lua adapters among threads: what pthread_create starts here are submitters, each adapter brings a loop of its own.
 * The tree's root is the working directory, or NEAP_SOURCE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/base.h"
#include "script/script.h"
#include "support/test_host.h"

#define OBJECTS 64u
#define BYTES 65536u
#define PARAMS "{\"max_size_gb\": 1, \"mock_bandwidth_gb\": 1000000}"
#define SLOW "{\"max_size_gb\": 1, \"mock_bandwidth_gb\": 0.000001}" /* a minute for each object */

typedef struct store {
  test_host *host;
  const neap_adapter *table;
  void *self;
  uint8_t *data;
  atomic_bool ended;
  uint32_t wrong;
} store;

static const neap_adapter *load_class(const char *file, const char *class_name) {
  const char *root = getenv("NEAP_SOURCE");
  char dir[4096], path[4200];
  const neap_adapter *table = NULL;
  neap_error err = {0};
  snprintf(dir, sizeof(dir), "%s/lua", root ? root : ".");
  snprintf(path, sizeof(path), "%s/%s", root ? root : ".", file);
  neap__lua_setup(dir);
  if (neap__lua_loader.load(path, class_name, NULL, &table, &err) != 0) fail_msg("%s", err.text);
  return table;
}

static const neap_adapter *load_example(void) {
  return load_class("examples/lmc_external_l2_adapter/init.lua", "InMemoryL2Adapter");
}

static void store_open_as(store *s, const neap_adapter *table, const char *params) {
  neap_error err = {0};
  *s = (store){.host = test_host_open(1), .table = table, .data = calloc(OBJECTS + 1, BYTES)};
  assert_non_null(s->data);
  if (s->table->open(s->table, test_host_table(s->host), params, &s->self, &err) != 0) fail_msg("%s", err.text);
}

static void store_open(store *s, const char *params) { store_open_as(s, load_example(), params); }

static void store_close(store *s) {
  s->table->close(s->self);
  assert_int_equal(test_host_close(s->host), 0);
  free(s->data);
}

/* Stores, finds, loads and removes objects; counts what is not as it should be. */
static void *exercise(void *arg) {
  store *s = arg;
  uint8_t *back = s->data + (size_t)OBJECTS * BYTES;
  test_op *ops[OBJECTS];
  for (uint32_t i = 0; i < OBJECTS; i++) {
    uint8_t *bytes = s->data + (size_t)i * BYTES;
    test_fill(bytes, BYTES, i);
    ops[i] = test_op_new(s->host, NEAP_OP_STORE, 1);
    ops[i]->objects[0] = (neap_object){.key = test_key(i), .data = bytes, .bytes = BYTES, .result = NEAP_EIO};
    test_op_submit(s->table, s->self, ops[i]);
    if (i % 2) s->table->cancel(s->self, &ops[i]->op);
  }
  for (uint32_t i = 0; i < OBJECTS; i++) {
    test_op_wait(ops[i]);
    int result = ops[i]->objects[0].result;
    s->wrong += result != 0 && !(i % 2 && result == NEAP_ECANCELED);
    s->wrong += test_lookup(s->host, s->table, s->self, test_key(i), BYTES) != (result == 0 ? 0 : NEAP_ENOENT);
    if (result != 0) continue;
    s->wrong += test_load(s->host, s->table, s->self, test_key(i), back, BYTES) != 0;
    s->wrong += !test_filled(back, BYTES, i);
    s->wrong += test_remove(s->host, s->table, s->self, test_key(i)) != 0;
  }
  atomic_store(&s->ended, true);
  return NULL;
}

static void exercise_two(const neap_adapter *table, const char *params) {
  store stores[2];
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) store_open_as(&stores[i], table, params);
  for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, exercise, &stores[i]), 0);
  char json[4096];
  while (!atomic_load(&stores[0].ended) || !atomic_load(&stores[1].ended)) {
    for (int i = 0; i < 2; i++) assert_true(stores[i].table->status(stores[i].self, json, sizeof(json)) > 0);
    assert_non_null(strstr(json, "\"is_healthy\":true"));
  }
  for (int i = 0; i < 2; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(stores[i].wrong, 0);
    store_close(&stores[i]);
  }
}

static void two_adapters_in_parallel_do_not_share_anything(void **state) {
  (void)state;
  exercise_two(load_example(), PARAMS);
}

static void two_adapters_with_sockets_serve_and_cancel_in_parallel(void **state) {
  (void)state;
  exercise_two(load_class("tests/data/loopback_store.lua", "LoopbackStore"), "{}");
}

static void an_operation_that_is_done_cannot_be_canceled_any_more(void **state) {
  store s;
  (void)state;
  store_open(&s, PARAMS);
  assert_int_equal(test_store(s.host, s.table, s.self, test_key(1), s.data, BYTES, NULL), 0);
  neap_op gone = {.size = sizeof(gone)};
  s.table->cancel(s.self, &gone);
  assert_int_equal(test_lookup(s.host, s.table, s.self, test_key(1), BYTES), 0);
  store_close(&s);
}

static void a_canceled_operation_ends_without_waiting_for_its_time(void **state) {
  store s;
  (void)state;
  store_open(&s, SLOW);
  test_op *op = test_op_new(s.host, NEAP_OP_STORE, 2);
  for (uint32_t i = 0; i < 2; i++) {
    op->objects[i] = (neap_object){.key = test_key(i), .data = s.data, .bytes = BYTES, .result = NEAP_EIO};
  }
  test_op_submit(s.table, s.self, op);
  s.table->cancel(s.self, &op->op);
  test_op_wait(op);
  for (uint32_t i = 0; i < 2; i++) assert_int_equal(op->objects[i].result, NEAP_ECANCELED);
  store_close(&s);
}

static void a_deadline_that_has_passed_ends_an_operation_unheard(void **state) {
  store s;
  (void)state;
  store_open(&s, PARAMS);
  test_op *op = test_op_new(s.host, NEAP_OP_STORE, 1);
  op->objects[0] = (neap_object){.key = test_key(1), .data = s.data, .bytes = BYTES, .result = NEAP_EIO};
  op->op.deadline_ns = neap__now_ns() - 1;
  test_op_run(s.table, s.self, op);
  assert_int_equal(op->objects[0].result, NEAP_ETIMEDOUT);
  assert_int_equal(test_lookup(s.host, s.table, s.self, test_key(1), BYTES), NEAP_ENOENT);
  store_close(&s);
}

static void a_status_that_does_not_fit_is_refused(void **state) {
  store s;
  char small[8];
  (void)state;
  store_open(&s, PARAMS);
  assert_int_equal(s.table->status(s.self, small, sizeof(small)), NEAP_ELIMIT);
  store_close(&s);
}

static void loading_an_unchanged_class_again_gives_the_same_table(void **state) {
  (void)state;
  assert_ptr_equal(load_example(), load_example());
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(two_adapters_in_parallel_do_not_share_anything),
      cmocka_unit_test(two_adapters_with_sockets_serve_and_cancel_in_parallel),
      cmocka_unit_test(an_operation_that_is_done_cannot_be_canceled_any_more),
      cmocka_unit_test(a_canceled_operation_ends_without_waiting_for_its_time),
      cmocka_unit_test(a_deadline_that_has_passed_ends_an_operation_unheard),
      cmocka_unit_test(a_status_that_does_not_fit_is_refused),
      cmocka_unit_test(loading_an_unchanged_class_again_gives_the_same_table),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
