/* SPDX-License-Identifier: MIT
 *
 * test_inner.c - adapters inside adapters: what the opener is promised, whatever the inner adapter does. The inner
 * adapter is a probe that holds its operations until the test ends them. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "l2/inner.h"
#include "support/test_host.h"

#define HELD_MAX 256
#define MOCK "{\"type\":\"mock\",\"max_size_gb\":1,\"mock_bandwidth_gb\":1000}"

/* --- the probe ------------------------------------------------------------------------------------------------ */

static struct {
  const neap_host *host;
  pthread_mutex_t lock;
  neap_op *held[HELD_MAX];
  uint32_t held_count, most_held, canceled;
  bool work; /* operations end on a worker */
} probe = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int probe_open(const neap_adapter *adapter, const neap_host *host, const char *params_json, void **self,
                      neap_error *err) {
  (void)adapter, (void)params_json, (void)err;
  probe.host = host;
  *self = &probe;
  return 0;
}

static neap_op *probe_take(uint32_t i) {
  pthread_mutex_lock(&probe.lock);
  assert_true(i < probe.held_count);
  neap_op *op = probe.held[i];
  probe.held[i] = probe.held[--probe.held_count];
  pthread_mutex_unlock(&probe.lock);
  return op;
}

static void probe_end(neap_op *op) {
  for (uint32_t i = 0; i < op->count; i++) op->objects[i].result = 0;
  probe.host->done(probe.host->engine, op);
}

static void probe_end_one(void *arg) {
  (void)arg;
  probe_end(probe_take(0));
}

static void probe_op(void *self, neap_op *op) {
  (void)self;
  pthread_mutex_lock(&probe.lock);
  if (probe.held_count == HELD_MAX) abort();
  probe.held[probe.held_count++] = op;
  probe.most_held = NEAP_MAX(probe.most_held, probe.held_count);
  bool work = probe.work;
  pthread_mutex_unlock(&probe.lock);
  if (work && probe.host->queue_work(probe.host->engine, probe_end_one, NULL) != 0) probe_end_one(NULL);
}

static void probe_cancel(void *self, neap_op *op) {
  (void)self;
  pthread_mutex_lock(&probe.lock);
  for (uint32_t i = 0; i < probe.held_count; i++) probe.canceled += probe.held[i] == op;
  pthread_mutex_unlock(&probe.lock);
}

static void probe_close(void *self) { (void)self; }

static const neap_traits narrow_traits = {.size = sizeof(neap_traits), .concurrency = 2, .batch = 4};

#define PROBE_FUNCTIONS                                                                                \
  .open = probe_open, .store = probe_op, .lookup = probe_op, .load = probe_op, .cancel = probe_cancel, \
  .close = probe_close

static const neap_adapter wide = {NEAP_ADAPTER_INIT("probe_wide", "1"), .schema_json = "{}", PROBE_FUNCTIONS};
static const neap_adapter narrow = {NEAP_ADAPTER_INIT("probe_narrow", "1"), .schema_json = "{}", PROBE_FUNCTIONS,
                                    .traits = &narrow_traits};
NEAP_ADAPTER_BUILTIN(wide)
NEAP_ADAPTER_BUILTIN(narrow)

/* Opens one more of its own kind, until there is no deeper. */
static int nest_open(const neap_adapter *adapter, const neap_host *host, const char *params_json, void **self,
                     neap_error *err) {
  neap_inner *inner = NULL;
  (void)adapter, (void)params_json;
  int rc = host->inner_open(host->engine, "{\"type\":\"probe_nest\"}", NULL, NULL, &inner, err);
  *self = inner;
  return rc;
}
static const neap_adapter nest = {NEAP_ADAPTER_INIT("probe_nest", "1"),
                                  .schema_json = "{}",
                                  .open = nest_open,
                                  .store = probe_op,
                                  .lookup = probe_op,
                                  .load = probe_op,
                                  .close = probe_close};
NEAP_ADAPTER_BUILTIN(nest)

/* --- the opener ----------------------------------------------------------------------------------------------- */

typedef struct rig {
  test_host *test;
  const neap_host *host;
  neap_inner *inner;
} rig;

/* The operations are those of the test host, so it counts their ends. */
static void ended(void *ctx, neap_op *op) {
  rig *r = ctx;
  r->host->done(r->host->engine, op);
}

static int open_inner(rig *r, const char *config, neap_error *err) {
  return r->host->inner_open(r->host->engine, config, ended, r, &r->inner, err);
}

static void rig_open(rig *r, const char *config) {
  neap_error err = {""};
  probe.held_count = probe.most_held = probe.canceled = 0;
  probe.work = false;
  r->test = test_host_open(2);
  r->host = test_host_table(r->test);
  int rc = open_inner(r, config, &err);
  assert_string_equal(err.text, "");
  assert_int_equal(rc, 0);
}

static void rig_close(rig *r) {
  r->host->inner_close(r->inner);
  assert_int_equal(test_host_close(r->test), 0);
}

static test_op *submit(rig *r, neap_op_kind kind, uint32_t count) {
  test_op *op = test_op_new(r->test, kind, count);
  for (uint32_t i = 0; i < count; i++) op->objects[i].key = test_key(i);
  r->host->inner_submit(r->inner, &op->op);
  return op;
}

static uint32_t held(void) {
  pthread_mutex_lock(&probe.lock);
  uint32_t count = probe.held_count;
  pthread_mutex_unlock(&probe.lock);
  return count;
}

static void wait_held(uint32_t count) {
  uint64_t until = neap__now_ns() + UINT64_C(30000000000);
  while (held() < count) {
    assert_true(neap__now_ns() < until);
    sched_yield();
  }
}

/* --- tests ---------------------------------------------------------------------------------------------------- */

static void test_an_inner_store_answers_like_any_other(void **state) {
  rig r;
  uint8_t data[100], back[100];
  (void)state;
  rig_open(&r, MOCK);
  test_fill(data, sizeof data, 1);
  test_op *op = test_op_new(r.test, NEAP_OP_STORE, 1);
  op->objects[0] = (neap_object){.key = test_key(1), .data = data, .bytes = sizeof data};
  r.host->inner_submit(r.inner, &op->op);
  test_op_wait(op);
  assert_int_equal(op->objects[0].result, 0);
  assert_int_equal(op->objects[0].stored_bytes, sizeof data);
  op = test_op_new(r.test, NEAP_OP_LOAD, 2);
  for (uint64_t i = 0; i < 2; i++) {
    op->objects[i] = (neap_object){.key = test_key(i + 1), .data = back, .bytes = sizeof back};
  }
  r.host->inner_submit(r.inner, &op->op);
  test_op_wait(op);
  assert_int_equal(op->objects[0].result, 0);
  assert_int_equal(op->objects[1].result, NEAP_ENOENT);
  assert_true(test_filled(back, sizeof back, 1));
  op = test_op_new(r.test, NEAP_OP_LIST, 0);
  r.host->inner_submit(r.inner, &op->op);
  test_op_wait(op);
  assert_int_equal(op->op.list_result, 0);
  assert_int_equal(op->entries_count, 1);
  char json[256];
  assert_true(r.host->inner_status(r.inner, json, sizeof json) > 0);
  assert_non_null(strstr(json, "\"used_bytes\":100"));
  rig_close(&r);
}

static void refuses(const char *config, int code, const char *text) {
  neap_error err = {""};
  rig r = {.test = test_host_open(1)};
  r.host = test_host_table(r.test);
  assert_int_equal(open_inner(&r, config, &err), code);
  assert_string_equal(strstr(err.text, text) ? text : err.text, text);
  assert_int_equal(test_host_close(r.test), 0);
}

static void test_wrong_configurations_are_refused_with_what_is_wrong(void **state) {
  (void)state;
  refuses("{", NEAP_EINVAL, "");
  refuses("{\"type\":\"moc\"}", NEAP_EINVAL, "'mock'");
  refuses("{\"type\":\"mock\",\"max_size_gb\":1}", NEAP_EINVAL, "mock_bandwidth_gb must be a positive number");
  refuses("{\"type\":\"probe_wide\",\"max_capacity_gb\":1}", NEAP_EINVAL, "an inner adapter has no 'max_capacity_gb'");
  refuses("{\"type\":\"probe_wide\",\"eviction\":{}}", NEAP_EINVAL, "an inner adapter has no 'eviction'");
}

static void test_nesting_ends_somewhere(void **state) {
  (void)state;
  refuses("{\"type\":\"probe_nest\"}", NEAP_ELIMIT, "nested deeper than 8");
}

static void test_log_lines_carry_the_inner_name(void **state) {
  rig r;
  (void)state;
  rig_open(&r, "{\"type\":\"probe_wide\"}");
  probe.host->log(probe.host->engine, NEAP_INFO, "hello");
  assert_true(test_host_logged(r.test, "probe_wide: hello"));
  rig_close(&r);
}

static void test_what_is_not_supported_ends_at_once(void **state) {
  rig r;
  (void)state;
  rig_open(&r, "{\"type\":\"probe_wide\"}");
  assert_int_equal(r.host->inner_can(r.inner, NEAP_OP_REMOVE), 0);
  assert_int_equal(r.host->inner_can(r.inner, NEAP_OP_STORE), 1);
  test_op *op = submit(&r, NEAP_OP_REMOVE, 2);
  test_op_wait(op);
  assert_int_equal(op->objects[1].result, NEAP_ENOTSUP);
  op = submit(&r, NEAP_OP_LIST, 0);
  test_op_wait(op);
  assert_int_equal(op->op.list_result, NEAP_ENOTSUP);
  rig_close(&r);
}

static void test_a_second_done_is_reported_and_changes_nothing(void **state) {
  rig r;
  (void)state;
  rig_open(&r, "{\"type\":\"probe_wide\"}");
  submit(&r, NEAP_OP_LOOKUP, 1);
  neap_op *stale = probe_take(0);
  probe_end(stale);
  test_op *next = submit(&r, NEAP_OP_LOOKUP, 1);
  probe.host->done(probe.host->engine, stale);
  assert_true(test_host_logged(r.test, "probe_wide: called done for an operation that it does not have"));
  assert_int_equal(atomic_load(&next->done_count), 0);
  neap_op foreign = {.size = sizeof foreign};
  probe.host->done(probe.host->engine, &foreign);
  probe_end(probe_take(0));
  assert_int_equal(atomic_load(&next->done_count), 1);
  rig_close(&r);
}

static void test_a_forgotten_result_is_a_failure(void **state) {
  rig r;
  (void)state;
  rig_open(&r, "{\"type\":\"probe_wide\"}");
  test_op *op = test_op_new(r.test, NEAP_OP_LOAD, 1);
  op->objects[0].result = 0;
  r.host->inner_submit(r.inner, &op->op);
  probe.host->done(probe.host->engine, probe_take(0));
  assert_int_equal(op->objects[0].result, NEAP_EIO);
  rig_close(&r);
}

static void test_long_operations_are_split_and_put_together(void **state) {
  rig r;
  (void)state;
  rig_open(&r, "{\"type\":\"probe_narrow\"}");
  test_op *op = submit(&r, NEAP_OP_LOAD, 10);
  uint32_t objects = 0;
  for (uint32_t part = 0; part < 3; part++) {
    wait_held(1);
    neap_op *got = probe_take(0);
    assert_true(got->count <= 4);
    objects += got->count;
    assert_int_equal(atomic_load(&op->done_count), 0);
    probe_end(got);
  }
  test_op_wait(op);
  assert_int_equal(objects, 10);
  for (uint32_t i = 0; i < 10; i++) assert_int_equal(op->objects[i].result, 0);
  rig_close(&r);
}

static void test_no_more_is_handed_over_at_once_than_declared(void **state) {
  rig r;
  (void)state;
  rig_open(&r, "{\"type\":\"probe_narrow\"}");
  test_op *ops[20];
  for (uint32_t i = 0; i < 20; i++) ops[i] = submit(&r, NEAP_OP_LOOKUP, 1);
  for (uint32_t i = 0; i < 20; i++) {
    wait_held(1);
    probe_end(probe_take(0));
  }
  for (uint32_t i = 0; i < 20; i++) test_op_wait(ops[i]);
  assert_int_equal(probe.most_held, 2);
  rig_close(&r);
}

static void test_without_workers_what_waits_fails_instead_of_waiting_for_ever(void **state) {
  rig r;
  (void)state;
  rig_open(&r, "{\"type\":\"probe_narrow\"}");
  test_op *ops[4];
  for (uint32_t i = 0; i < 4; i++) ops[i] = submit(&r, NEAP_OP_LOOKUP, 1);
  test_host_refuse_work(r.test, true);
  probe_end(probe_take(0));
  test_op_wait(ops[3]);
  assert_int_equal(ops[2]->objects[0].result, NEAP_ELIMIT);
  assert_int_equal(ops[3]->objects[0].result, NEAP_ELIMIT);
  probe_end(probe_take(0));
  rig_close(&r);
}

static void test_a_cancel_reaches_what_is_out_and_ends_what_waits(void **state) {
  rig r;
  (void)state;
  rig_open(&r, "{\"type\":\"probe_narrow\"}");
  test_op *op = submit(&r, NEAP_OP_LOOKUP, 12);
  r.host->inner_cancel(r.inner, &op->op);
  assert_int_equal(probe.canceled, 2);
  probe_end(probe_take(0));
  assert_int_equal(atomic_load(&op->done_count), 0);
  probe_end(probe_take(0));
  test_op_wait(op);
  assert_int_equal(op->objects[11].result, NEAP_ECANCELED);
  rig_close(&r);
}

static void test_more_parts_than_allowed_are_refused(void **state) {
  rig r;
  (void)state;
  rig_open(&r, "{\"type\":\"probe_narrow\"}");
  test_op *op = submit(&r, NEAP_OP_LOOKUP, 4 * NEAP_INNER_CALLS_MAX + 1);
  assert_int_equal(atomic_load(&op->done_count), 1);
  assert_int_equal(op->objects[0].result, NEAP_ELIMIT);
  rig_close(&r);
}

/* --- threads -------------------------------------------------------------------------------------------------- */

static void *submit_many(void *arg) {
  rig *r = arg;
  test_op *ops[300];
  for (uint32_t i = 0; i < NEAP_ARRAY_LEN(ops); i++) {
    ops[i] = submit(r, NEAP_OP_LOAD, 1 + i % 9);
    if (i % 7 == 0) r->host->inner_cancel(r->inner, &ops[i]->op);
  }
  for (uint32_t i = 0; i < NEAP_ARRAY_LEN(ops); i++) test_op_wait(ops[i]);
  return NULL;
}

static void test_many_threads_submit_and_each_operation_ends_once(void **state) {
  rig r;
  pthread_t threads[3];
  (void)state;
  rig_open(&r, "{\"type\":\"probe_narrow\"}");
  probe.work = true;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(threads); i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &r), 0);
  }
  for (size_t i = 0; i < NEAP_ARRAY_LEN(threads); i++) pthread_join(threads[i], NULL);
  assert_true(probe.most_held <= 2);
  rig_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_an_inner_store_answers_like_any_other),
      cmocka_unit_test(test_wrong_configurations_are_refused_with_what_is_wrong),
      cmocka_unit_test(test_nesting_ends_somewhere),
      cmocka_unit_test(test_log_lines_carry_the_inner_name),
      cmocka_unit_test(test_what_is_not_supported_ends_at_once),
      cmocka_unit_test(test_a_second_done_is_reported_and_changes_nothing),
      cmocka_unit_test(test_a_forgotten_result_is_a_failure),
      cmocka_unit_test(test_long_operations_are_split_and_put_together),
      cmocka_unit_test(test_no_more_is_handed_over_at_once_than_declared),
      cmocka_unit_test(test_without_workers_what_waits_fails_instead_of_waiting_for_ever),
      cmocka_unit_test(test_a_cancel_reaches_what_is_out_and_ends_what_waits),
      cmocka_unit_test(test_more_parts_than_allowed_are_refused),
      cmocka_unit_test(test_many_threads_submit_and_each_operation_ends_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
