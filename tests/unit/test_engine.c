/* SPDX-License-Identifier: MIT
 *
 * The engine as a whole: what it leaves behind when it cannot open and when it closes, also under operations that
 * never end. */
#include "support/flow_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/test_host.h" /* test_filled */

static char shm_name[64];

static uint32_t threads_now(void) {
  uint32_t count = 0;
  DIR *dir = opendir("/proc/self/task");
  for (struct dirent *entry; (entry = readdir(dir));) count += entry->d_name[0] != '.';
  closedir(dir);
  return count;
}

/* A thread that was joined may be listed a moment longer. */
static void assert_threads(uint32_t count) {
  uint64_t until = neap__now_ns() + UINT64_C(10000000000);
  while (threads_now() != count && neap__now_ns() < until) sched_yield();
  assert_int_equal(threads_now(), count);
}

static bool in_shm(void) {
  DIR *dir = opendir("/dev/shm");
  bool found = false;
  for (struct dirent *entry; (entry = readdir(dir));) found |= strncmp(entry->d_name, shm_name, strlen(shm_name)) == 0;
  closedir(dir);
  return found;
}

static int named_setup(void **state) {
  int rc = flow_setup(state);
  flow_rig *rig = *state;
  snprintf(shm_name, sizeof shm_name, "neap-engine-test-%d", (int)getpid());
  rig->config.l1.shm_name = shm_name;
  rig->config.l2_adapters = flow_adapters();
  return rc;
}

/* --- opening -------------------------------------------------------------------------------------------------- */

static void refused(flow_rig *rig, int code, const char *text) {
  uint32_t threads = threads_now();
  neap__engine *engine = NULL;
  neap_error err = {0};
  assert_int_equal(neap__engine_open(&rig->config, &engine, &err), code);
  if (!strstr(err.text, text)) fail_msg("'%s' does not tell '%s'", err.text, text);
  assert_threads(threads);
  assert_false(in_shm());
  for (uint32_t i = 0; i < FLOW_STORES; i++) assert_int_equal(flow_stores[i].closed, flow_stores[i].opened);
}

static void an_unknown_policy_opens_nothing(void **state) {
  flow_rig *rig = *state;
  rig->config.eviction_policy = "LRV";
  refused(rig, NEAP_EINVAL, "LRV");
}

static void a_pool_that_cannot_be_opens_nothing(void **state) {
  flow_rig *rig = *state;
  rig->config.l1.align_bytes = 3;
  refused(rig, NEAP_EINVAL, "l1-align-bytes");
}

static void an_adapter_that_does_not_parse_closes_those_before_it(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 3); /* registers the stores */
  flow_close(rig);
  const char *const adapters[3] = {flow_adapters()[0], flow_adapters()[1], "{\"type\":\"nothing-like-it\"}"};
  rig->config.l2_adapters = adapters;
  refused(rig, NEAP_EINVAL, "nothing-like-it");
}

static void an_adapter_that_does_not_open_closes_those_before_it(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 3);
  flow_close(rig);
  flow_stores[1].refuse_open = true;
  refused(rig, NEAP_EIO, "scripted1: told not to open");
}

static void too_many_adapters_are_refused(void **state) {
  flow_rig *rig = *state;
  rig->config.l2_adapter_count = NEAP_TIERS_MAX + 1;
  refused(rig, NEAP_EINVAL, "--l2-adapter: 17 given");
}

/* --- closing -------------------------------------------------------------------------------------------------- */

static void close_leaves_no_thread_and_no_file(void **state) {
  flow_rig *rig = *state;
  uint32_t threads = threads_now();
  flow_open(rig, 2);
  assert_true(in_shm());
  assert_int_equal(flow_commit(rig, 0), 0);
  flow_offer(rig, 0, 1);
  assert_int_equal(flow_hits(rig, 0, 2), 1);
  flow_close(rig);
  assert_threads(threads);
  assert_false(in_shm());
}

static void close_waits_for_stores_under_way(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  for (uint32_t n = 0; n < 10; n++) assert_int_equal(flow_commit(rig, n), 0);
  flow_offer(rig, 0, 10);
  neap__engine_close(rig->engine, false);
  rig->engine = NULL;
  for (uint32_t n = 0; n < 10; n++) assert_true(flow_has(0, n));
}

static void what_is_kept_is_there_for_the_next_engine(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 0);
  for (uint32_t n = 0; n < 5; n++) assert_int_equal(flow_commit(rig, n), 0);
  neap__engine_close(rig->engine, true);
  assert_true(in_shm());
  flow_open(rig, 0);
  assert_true(rig->engine->report.took_over);
  assert_int_equal(rig->engine->report.kept, 5);
  assert_int_equal(flow_hits(rig, 0, 6), 5);
  /* and it is known to the policy: it can go */
  for (uint32_t n = 100; n < 164; n++) assert_int_equal(flow_commit(rig, n), 0);
  flow_close(rig);
  assert_false(in_shm());
}

static void close_ends_fetches_in_every_phase(void **state) {
  flow_rig *rig = *state;
  rig->config.prefetch_in_flight = 2;
  rig->config.close_grace_ms = 5000;
  flow_open(rig, 2);
  for (uint32_t n = 0; n < 4; n++) flow_put(n / 2, n, 0);
  flow_hold(1, NEAP_OP_LOAD, true);
  flow_fetch *loads = flow_ask(rig, 0, 4);
  flow_wait_held(1, 1);
  flow_hold(1, NEAP_OP_LOOKUP, true);
  flow_fetch *looks = flow_ask(rig, 0, 3), *waits = flow_ask(rig, 0, 2);
  flow_wait_held(1, 2);
  flow_abandon(loads);
  flow_abandon(looks);
  flow_abandon(waits);
  neap__fetcher_drain(rig->engine->fetcher);
  flow_end(looks);
  flow_end(waits);
  flow_finish_all(1);
  neap__engine_close(rig->engine, false);
  rig->engine = NULL;
  flow_end(loads);
  assert_int_equal(flow_stores[0].closed + flow_stores[1].closed, 2);
}

static void an_adapter_that_never_answers_bounds_close_and_keeps_its_memory(void **state) {
  flow_rig *rig = *state;
  rig->config.close_grace_ms = 50;
  flow_open(rig, 3);
  neap__log_set_level(NEAP_ERROR + 1);
  for (uint32_t n = 0; n < 2; n++) flow_put(0, n, 0);
  assert_int_equal(flow_commit(rig, 10), 0);
  flow_hold(0, NEAP_OP_LOAD, true);
  flow_hold(1, NEAP_OP_STORE, true);
  flow_fetch *loads = flow_ask(rig, 0, 2);
  flow_offer(rig, 10, 1);
  flow_wait_held(0, 1);
  flow_wait_held(1, 1);
  flow_hold(2, NEAP_OP_LOOKUP, true);
  flow_fetch *looks = flow_ask(rig, 1, 2);
  flow_wait_held(2, 1);
  flow_abandon(loads);
  flow_abandon(looks);
  uint64_t began = neap__now_ns();
  neap__engine_close(rig->engine, false);
  rig->engine = NULL;
  assert_true(neap__now_ns() - began < UINT64_C(10000000000));
  flow_end(loads);
  flow_end(looks);
  assert_false(in_shm());
  assert_int_equal(flow_stores[0].closed + flow_stores[1].closed + flow_stores[2].closed, 0);
  /* what they do now touches memory that is still there, and is ignored */
  neap_op *load = flow_stores[0].held[0], *store = flow_stores[1].held[0];
  assert_string_equal(load->objects[0].key.model, "demo/tiny");
  assert_true(test_filled(store->objects[0].data, FLOW_BYTES, 10 * FLOW_ROWS));
  for (uint32_t i = 0; i < 3; i++) {
    neap_op *op = flow_stores[i].held[0];
    memset(load->objects[0].data, 0x55, FLOW_BYTES);
    flow_stores[i].host->done(flow_stores[i].host->engine, op);
  }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, named_setup, flow_teardown)

static void *nothing(void *arg) { return arg; }

int main(void) {
  pthread_t first; /* a sanitizer starts a thread of its own together with the first one, to be counted from then on */
  if (pthread_create(&first, NULL, nothing, NULL) == 0) pthread_join(first, NULL);
  const struct CMUnitTest tests[] = {
      TEST(an_unknown_policy_opens_nothing),
      TEST(a_pool_that_cannot_be_opens_nothing),
      TEST(an_adapter_that_does_not_parse_closes_those_before_it),
      TEST(an_adapter_that_does_not_open_closes_those_before_it),
      TEST(too_many_adapters_are_refused),
      TEST(close_leaves_no_thread_and_no_file),
      TEST(close_waits_for_stores_under_way),
      TEST(what_is_kept_is_there_for_the_next_engine),
      TEST(close_ends_fetches_in_every_phase),
      TEST(an_adapter_that_never_answers_bounds_close_and_keeps_its_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
