/* SPDX-License-Identifier: MIT
 *
 * The three journeys at once: threads that look up, store and abandon while the loop loads, stores and evicts. At the
 * end every count is back where it began. */
#include "support/flow_rig.h"

#include "support/random.h"
#include "support/test_host.h" /* test_filled */

#define THREADS 4u
#define ROUNDS 250u
#define OBJECTS 160u /* more than twice what L1 holds */

typedef struct worker {
  flow_rig *rig;
  pthread_t thread;
  uint64_t random;
  uint32_t wrong_bytes, wrong_codes, hits;
} worker;

/* What a worker process does with a hit: reads, then gives the leases back. */
static void read_all(worker *w, neap__fetch *fetch, uint32_t first, uint32_t hit) {
  for (uint32_t i = 0; i < hit; i++) {
    bool take = random_below(&w->random, 2);
    neap__lease lease = neap__fetch_lease(fetch, i, 0, take);
    neap__view view;
    if (neap__l1_view(w->rig->l1, lease, &view) != 0)
      w->wrong_codes++;
    else if (!test_filled(view.data, view.bytes, (first + i) * FLOW_ROWS))
      w->wrong_bytes++;
    if (take) w->wrong_codes += neap__l1_release(w->rig->l1, lease, UINT32_MAX) != 0;
  }
  w->hits += hit;
}

static void look_up(worker *w) {
  uint32_t chunks = 1 + random_below(&w->random, 12), first = random_below(&w->random, OBJECTS - chunks), hit;
  neap__key keys[12];
  const uint64_t bytes = FLOW_BYTES;
  for (uint32_t i = 0; i < chunks; i++) keys[i] = flow_key(w->rig, first + i, 0);
  neap__fetch_request request = {.chunks = chunks,
                                 .rows = 1,
                                 .keys = keys,
                                 .row_bytes = &bytes,
                                 .readers = 1,
                                 .owner = {.kind = NEAP_OWNER_REQUEST, .id = first},
                                 .warm = random_below(&w->random, 8) == 0,
                                 .name = "threads"};
  neap__fetch *fetch;
  if (neap__fetch_start(w->rig->engine->fetcher, &request, &fetch) != 0) {
    w->wrong_codes++;
    return;
  }
  bool patient = random_below(&w->random, 4) != 0, final = neap__fetch_poll(fetch, &hit);
  while (patient && !final) {
    sched_yield();
    final = neap__fetch_poll(fetch, &hit);
  }
  if (final && !request.warm) read_all(w, fetch, first, hit);
  neap__fetch_end(fetch);
}

static void store(worker *w) {
  uint32_t first = random_below(&w->random, OBJECTS - 4);
  for (uint32_t i = 4; i-- > 0;) {
    int rc = flow_commit(w->rig, first + i);
    w->wrong_codes += rc != 0 && rc != NEAP_EEXIST && rc != NEAP_ENOSPC;
  }
  flow_offer(w->rig, first, 4);
  neap__evictor_check(w->rig->engine->evictor);
}

static void *work(void *arg) {
  worker *w = arg;
  for (uint32_t i = 0; i < ROUNDS; i++) {
    if (random_below(&w->random, 3) == 0)
      store(w);
    else
      look_up(w);
  }
  return NULL;
}

static void run(flow_rig *rig, uint32_t stores) {
  uint64_t seed = random_seed("test_flow_threads");
  flow_open(rig, stores);
  worker workers[THREADS];
  for (uint32_t i = 0; i < THREADS; i++) {
    workers[i] = (worker){.rig = rig, .random = random_next(&seed)};
    assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
  }
  uint32_t hits = 0, wrong_bytes = 0, wrong_codes = 0;
  for (uint32_t i = 0; i < THREADS; i++) {
    pthread_join(workers[i].thread, NULL);
    hits += workers[i].hits;
    wrong_bytes += workers[i].wrong_bytes;
    wrong_codes += workers[i].wrong_codes;
  }
  assert_int_equal(wrong_bytes, 0);
  assert_int_equal(wrong_codes, 0);
  assert_true(hits > 0);
  flow_settle(rig);
  assert_int_equal(flow_l1(rig).leases_used, 0);
  assert_int_equal(flow_storing(rig).pending_bytes, 0);
  assert_int_equal(flow_fetches(rig).lookup_phase + flow_fetches(rig).load_phase, 0);
  assert_true(flow_l1(rig).evicted_objects > 0);
}

static void threads_that_fetch_and_store_while_the_loop_evicts_leave_nothing_behind(void **state) { run(*state, 2); }

static void also_with_temporary_objects_and_copies_dropped_after_their_store(void **state) {
  flow_rig *rig = *state;
  rig->config.watermark = 0.5;
  rig->config.skip_l1 = true;
  rig->config.prefetch_in_flight = 2;
  run(rig, 1);
}

static void also_when_deadlines_pass_and_stores_fail(void **state) {
  flow_rig *rig = *state;
  rig->config.prefetch_deadline_ms = 1;
  rig->config.eviction_policy = "ARC";
  for (uint32_t n = 0; n < OBJECTS; n += 7) {
    flow_force(0, NEAP_OP_LOAD, n, NEAP_EIO);
    flow_force(1, NEAP_OP_STORE, n + 1, NEAP_EIO);
    flow_stores[1].cut[(n + 2) * FLOW_ROWS] = true;
  }
  neap__log_set_level(NEAP_ERROR + 1);
  run(rig, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, flow_setup, flow_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(threads_that_fetch_and_store_while_the_loop_evicts_leave_nothing_behind),
      TEST(also_with_temporary_objects_and_copies_dropped_after_their_store),
      TEST(also_when_deadlines_pass_and_stores_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
