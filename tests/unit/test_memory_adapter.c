/* SPDX-License-Identifier: MIT
 *
 * test_memory_adapter.c - the contract of neap/adapter.h, kept by one store in both its forms: built in ("mock") and as
 * a plugin (memory.so, found in NEAP_BUILD). Each test runs for both. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "l2/registry.h"
#include "support/test_host.h"

#define BYTES 1000u
#define GIB 1073741824.0

/* One opened store. */
typedef struct opened {
  const neap_adapter *adapter;
  test_host *host;
  void *self;
} opened;

static const char *form; /* "mock" or "memory" */
static char plugin_dir[4096];

static opened open_with(double max_bytes, double bytes_per_s) {
  char json[512], params[128];
  neap__tier_config config;
  neap_error err = {""};
  opened o = {.host = test_host_open(1)};
  snprintf(params, sizeof params, "\"max_size_gb\":%.17g,\"mock_bandwidth_gb\":%.17g", max_bytes / GIB,
           bytes_per_s / GIB);
  if (strcmp(form, "mock") == 0) {
    snprintf(json, sizeof json, "{\"type\":\"mock\",%s}", params);
  } else {
    snprintf(json, sizeof json,
             "{\"type\":\"native_plugin\",\"module_path\":\"memory\",\"class_name\":\"InMemoryL2Adapter\","
             "\"adapter_params\":{%s}}",
             params);
  }
  int rc = neap__tier_config_parse(json, 1, plugin_dir, &config, &err);
  if (rc) print_error("%s\n", err.text);
  assert_int_equal(rc, 0);
  o.adapter = config.adapter;
  rc = o.adapter->open(o.adapter, test_host_table(o.host), config.params_json, &o.self, &err);
  if (rc) print_error("%s\n", err.text);
  assert_int_equal(rc, 0);
  neap__tier_config_free(&config);
  return o;
}

static opened open_store(double max_bytes) { return open_with(max_bytes, 100 * GIB); }

static void close_store(opened *o) {
  o->adapter->close(o->self);
  assert_int_equal(test_host_close(o->host), 0); /* each operation was ended exactly once */
}

static int store(opened *o, uint64_t n, uint64_t bytes, uint64_t *stored_bytes) {
  uint8_t *data = malloc(bytes);
  test_fill(data, bytes, n);
  int rc = test_store(o->host, o->adapter, o->self, test_key(n), data, bytes, stored_bytes);
  free(data);
  return rc;
}

static int lookup(opened *o, uint64_t n) { return test_lookup(o->host, o->adapter, o->self, test_key(n), 0); }

static void what_was_stored_is_found_and_loaded(void **state) {
  (void)state;
  opened o = open_store(1e6);
  uint8_t data[BYTES] = {0};
  uint64_t stored = 0;
  assert_int_equal(lookup(&o, 1), NEAP_ENOENT);
  assert_int_equal(store(&o, 1, BYTES, &stored), 0);
  assert_true(stored == BYTES);
  assert_int_equal(lookup(&o, 1), 0);
  assert_int_equal(test_load(o.host, o.adapter, o.self, test_key(1), data, BYTES), 0);
  assert_true(test_filled(data, BYTES, 1));
  close_store(&o);
}

static void results_are_per_key(void **state) {
  (void)state;
  opened o = open_store(1e6);
  uint8_t data[4][BYTES] = {{0}};
  store(&o, 1, BYTES, NULL);
  store(&o, 3, BYTES, NULL);
  test_op *load = test_op_new(o.host, NEAP_OP_LOAD, 4), *look = test_op_new(o.host, NEAP_OP_LOOKUP, 4);
  for (uint32_t i = 0; i < 4; i++) {
    load->objects[i] = (neap_object){.key = test_key(i), .data = data[i], .bytes = BYTES, .result = NEAP_EIO};
    look->objects[i] = (neap_object){.key = test_key(i), .result = NEAP_EIO};
  }
  test_op_run(o.adapter, o.self, load);
  test_op_run(o.adapter, o.self, look);
  for (uint32_t i = 0; i < 4; i++) {
    bool there = i == 1 || i == 3;
    assert_int_equal(load->objects[i].result, there ? 0 : NEAP_ENOENT);
    assert_int_equal(look->objects[i].result, there ? 0 : NEAP_ENOENT);
    assert_true(look->objects[i].stored_bytes == (there ? BYTES : 0));
    if (there) assert_true(test_filled(data[i], BYTES, i));
  }
  close_store(&o);
}

static void keys_differ_in_each_of_their_parts(void **state) {
  (void)state;
  opened o = open_store(1e6);
  neap_object_key keys[5];
  for (size_t i = 0; i < 5; i++) keys[i] = test_key(1);
  keys[1].model = "demo/other";
  keys[2].salt = "tenant";
  keys[3].rank += 1;
  keys[4].group = 256;
  store(&o, 1, BYTES, NULL);
  for (size_t i = 0; i < 5; i++) {
    assert_int_equal(test_lookup(o.host, o.adapter, o.self, keys[i], 0), i == 0 ? 0 : NEAP_ENOENT);
  }
  close_store(&o);
}

static void the_first_store_of_a_key_wins(void **state) {
  (void)state;
  opened o = open_store(1e6);
  uint8_t other[BYTES], data[BYTES];
  uint64_t stored = 77;
  store(&o, 1, BYTES, NULL);
  test_fill(other, BYTES, 2);
  assert_int_equal(test_store(o.host, o.adapter, o.self, test_key(1), other, BYTES, &stored), 0);
  assert_true(stored == 0);
  assert_int_equal(test_load(o.host, o.adapter, o.self, test_key(1), data, BYTES), 0);
  assert_true(test_filled(data, BYTES, 1));
  close_store(&o);
}

static void an_object_of_another_size_is_corrupt_and_fills_nothing(void **state) {
  (void)state;
  opened o = open_store(1e6);
  uint8_t data[BYTES + 1];
  store(&o, 1, BYTES, NULL);
  memset(data, 0xee, sizeof data);
  assert_int_equal(test_load(o.host, o.adapter, o.self, test_key(1), data, BYTES + 1), NEAP_ECORRUPT);
  assert_int_equal(test_load(o.host, o.adapter, o.self, test_key(1), data, BYTES - 1), NEAP_ECORRUPT);
  for (size_t i = 0; i < sizeof data; i++) assert_int_equal(data[i], 0xee);
  assert_int_equal(test_lookup(o.host, o.adapter, o.self, test_key(1), BYTES + 1), NEAP_ECORRUPT);
  assert_int_equal(test_lookup(o.host, o.adapter, o.self, test_key(1), BYTES), 0);
  close_store(&o);
}

static void the_oldest_goes_first_when_space_runs_out(void **state) {
  (void)state;
  opened o = open_store(3.5 * BYTES);
  uint8_t data[BYTES];
  for (uint64_t n = 1; n <= 3; n++) store(&o, n, BYTES, NULL);
  assert_int_equal(test_load(o.host, o.adapter, o.self, test_key(1), data, BYTES), 0); /* use does not matter */
  store(&o, 4, BYTES, NULL);
  for (uint64_t n = 1; n <= 4; n++) assert_int_equal(lookup(&o, n), n == 1 ? NEAP_ENOENT : 0);
  store(&o, 5, 2 * BYTES, NULL);
  for (uint64_t n = 1; n <= 5; n++) assert_int_equal(lookup(&o, n), n <= 3 ? NEAP_ENOENT : 0);
  close_store(&o);
}

static void an_object_larger_than_the_store_is_refused_and_evicts_nothing(void **state) {
  (void)state;
  opened o = open_store(2.5 * BYTES);
  uint64_t stored = 77;
  store(&o, 1, BYTES, NULL);
  assert_int_equal(store(&o, 2, 3 * BYTES, &stored), NEAP_ENOSPC);
  assert_true(stored == 0);
  assert_int_equal(lookup(&o, 1), 0);
  assert_int_equal(lookup(&o, 2), NEAP_ENOENT);
  close_store(&o);
}

static void what_was_removed_is_gone_and_can_be_stored_again(void **state) {
  (void)state;
  opened o = open_store(1e6);
  uint64_t stored = 0;
  store(&o, 1, BYTES, NULL);
  store(&o, 2, BYTES, NULL);
  assert_int_equal(test_remove(o.host, o.adapter, o.self, test_key(1)), 0);
  assert_int_equal(test_remove(o.host, o.adapter, o.self, test_key(1)), NEAP_ENOENT);
  assert_int_equal(lookup(&o, 1), NEAP_ENOENT);
  assert_int_equal(lookup(&o, 2), 0);
  assert_int_equal(store(&o, 1, BYTES, &stored), 0);
  assert_true(stored == BYTES);
  close_store(&o);
}

static void a_listing_yields_each_object_once_oldest_first_and_stops_when_asked(void **state) {
  (void)state;
  opened o = open_store(1e6);
  for (uint64_t n = 0; n < 5; n++) store(&o, n, BYTES + n, NULL);
  test_op *all = test_op_new(o.host, NEAP_OP_LIST, 0), *two = test_op_new(o.host, NEAP_OP_LIST, 0);
  two->entries_stop = 2;
  test_op_run(o.adapter, o.self, all);
  test_op_run(o.adapter, o.self, two);
  assert_int_equal(all->op.list_result, 0);
  assert_int_equal(all->entries_count, 5);
  for (uint64_t n = 0; n < 5; n++) {
    neap_object_key key = test_key(n);
    const neap_list_entry *entry = &all->entries[n].entry;
    assert_memory_equal(entry->key.hash, key.hash, sizeof key.hash);
    assert_string_equal(entry->key.model, key.model);
    assert_string_equal(entry->key.salt, key.salt);
    assert_int_equal(entry->key.rank, key.rank);
    assert_true(entry->bytes == BYTES + n);
    assert_true(entry->used_unix_s > 0);
  }
  assert_int_equal(two->op.list_result, 0);
  assert_int_equal(two->entries_count, 2);
  close_store(&o);
}

static void status_counts_objects_and_bytes(void **state) {
  (void)state;
  opened o = open_store(1e6);
  char json[256];
  store(&o, 1, BYTES, NULL);
  store(&o, 2, BYTES, NULL);
  int n = o.adapter->status(o.self, json, sizeof json);
  assert_int_equal(n, (int)strlen(json));
  assert_string_equal(json, "{\"is_healthy\":true,\"objects\":2,\"used_bytes\":2000,\"max_bytes\":1000000}");
  assert_int_equal(o.adapter->status(o.self, json, 10), NEAP_ELIMIT);
  close_store(&o);
}

static void opening_says_so_in_lmcaches_words(void **state) {
  (void)state;
  opened o = open_with(2 * GIB, 20 * GIB);
  assert_true(test_host_logged(o.host, strcmp(form, "mock") == 0
                                           ? "MockL2Adapter created: max_size_gb=2, mock_bandwidth_gb=20"
                                           : "InMemoryL2Adapter created: max_size_gb=2, mock_bandwidth_gb=20"));
  close_store(&o);
}

/* A store of 50 KB at 1 MB/s takes 50 ms: less would mean that the bandwidth is ignored. The caller gets its thread
 * back and a lookup is answered while the store is under way, before it is complete. */
static void a_store_takes_bytes_by_bandwidth_and_does_not_hold_up_the_caller(void **state) {
  (void)state;
  opened o = open_with(1e6, 1e6);
  static uint8_t data[50000];
  test_op *op = test_op_new(o.host, NEAP_OP_STORE, 1);
  op->objects[0] = (neap_object){.key = test_key(1), .data = data, .bytes = sizeof data, .result = NEAP_EIO};
  uint64_t start_ns = neap__now_ns();
  test_op_submit(o.adapter, o.self, op);
  int seen = lookup(&o, 1);
  bool ended = atomic_load(&op->done_count) != 0;
  test_op_wait(op);
  uint64_t took_ns = neap__now_ns() - start_ns;
  assert_true(seen == NEAP_ENOENT || ended);
  assert_int_equal(op->objects[0].result, 0);
  assert_true(took_ns >= 50000000u);
  close_store(&o);
}

/* --- many threads --------------------------------------------------------------------------------------------- */

#define THREADS 4u
#define ROUNDS 200u
#define KEYS 16u

typedef struct worker {
  opened *o;
  uint32_t number;
  uint64_t stored_bytes;
  uint32_t wrong;
} worker;

static void *work(void *arg) {
  worker *w = arg;
  uint8_t data[BYTES];
  for (uint32_t i = 0; i < ROUNDS; i++) {
    uint64_t stored = 0, n = (i * 7u + w->number) % KEYS;
    w->wrong += store(w->o, n, BYTES, &stored) != 0;
    w->stored_bytes += stored;
    int rc = test_load(w->o->host, w->o->adapter, w->o->self, test_key(n), data, BYTES);
    w->wrong += rc != 0 || !test_filled(data, BYTES, n);
    w->wrong += lookup(w->o, n) != 0;
    char json[256];
    w->wrong += w->o->adapter->status(w->o->self, json, sizeof json) <= 0;
  }
  return NULL;
}

static void many_threads_store_each_key_once_and_load_whole_objects(void **state) {
  (void)state;
  opened o = open_store(1e6);
  pthread_t threads[THREADS];
  worker workers[THREADS];
  uint64_t stored_bytes = 0;
  for (uint32_t i = 0; i < THREADS; i++) {
    workers[i] = (worker){.o = &o, .number = i};
    assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
  }
  for (uint32_t i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(workers[i].wrong, 0);
    stored_bytes += workers[i].stored_bytes;
  }
  assert_true(stored_bytes == KEYS * BYTES);
  close_store(&o);
}

static void all_operations_in_flight_end_before_close(void **state) {
  (void)state;
  opened o = open_store(20 * BYTES);
  static uint8_t data[BYTES];
  test_op *ops[100];
  for (uint64_t n = 0; n < 100; n++) {
    ops[n] = test_op_new(o.host, NEAP_OP_STORE, 1);
    ops[n]->objects[0] = (neap_object){.key = test_key(n), .data = data, .bytes = BYTES, .result = NEAP_EIO};
    test_op_submit(o.adapter, o.self, ops[n]);
  }
  for (uint64_t n = 0; n < 100; n++) {
    test_op_wait(ops[n]);
    assert_int_equal(ops[n]->objects[0].result, 0);
  }
  for (uint64_t n = 0; n < 100; n++) assert_int_equal(lookup(&o, n), n < 80 ? NEAP_ENOENT : 0);
  close_store(&o);
}

int main(void) {
  static const char *const forms[] = {"mock", "memory"};
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_was_stored_is_found_and_loaded),
      cmocka_unit_test(results_are_per_key),
      cmocka_unit_test(keys_differ_in_each_of_their_parts),
      cmocka_unit_test(the_first_store_of_a_key_wins),
      cmocka_unit_test(an_object_of_another_size_is_corrupt_and_fills_nothing),
      cmocka_unit_test(the_oldest_goes_first_when_space_runs_out),
      cmocka_unit_test(an_object_larger_than_the_store_is_refused_and_evicts_nothing),
      cmocka_unit_test(what_was_removed_is_gone_and_can_be_stored_again),
      cmocka_unit_test(a_listing_yields_each_object_once_oldest_first_and_stops_when_asked),
      cmocka_unit_test(status_counts_objects_and_bytes),
      cmocka_unit_test(opening_says_so_in_lmcaches_words),
      cmocka_unit_test(a_store_takes_bytes_by_bandwidth_and_does_not_hold_up_the_caller),
      cmocka_unit_test(many_threads_store_each_key_once_and_load_whole_objects),
      cmocka_unit_test(all_operations_in_flight_end_before_close),
  };
  const char *build = getenv("NEAP_BUILD");
  if (!build) {
    print_error("NEAP_BUILD is not set to the build folder\n");
    return 1;
  }
  snprintf(plugin_dir, sizeof plugin_dir, "%s/lib/neap/adapters", build);
  int failed = 0;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(forms); i++) {
    form = forms[i];
    failed += cmocka_run_group_tests_name(form, tests, NULL, NULL);
  }
  return failed;
}
