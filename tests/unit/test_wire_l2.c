/* SPDX-License-Identifier: MIT
 *
 * The wire front end while lookups take their time: a second level that needs 10 ms for an object, replies that wait,
 * requests that end before their lookup does, other threads that look on. */
#include "support/wire_client.h"

#include <pthread.h>
#include <stdatomic.h>

enum { WORKER = 7, CHUNKS = 3 };

/* SLOT_BYTES in 10 ms. */
#define SLOW_STORE "{\"type\":\"mock\",\"max_size_gb\":1,\"mock_bandwidth_gb\":0.0000954}"
#define PATIENCE_NS 20000000000u

static int setup(void **state) { return bench_setup_with(state, SLOW_STORE); }

/* A stored prompt that only the second level has. */
static ask stored_below(bench *b) {
  ask a = prompt("cmpl-1", 100, CHUNKS);
  neap__storer_stats stats = {0};
  register_worker(b, WORKER);
  store(b, &a, WORKER, 0x66);
  for (uint64_t start = neap__now_ns(); stats.completed_objects < CHUNKS && neap__now_ns() - start < PATIENCE_NS;)
    neap__storer_stats_get(b->engine->storer, &stats);
  assert_int_equal(stats.completed_objects, CHUNKS);
  end_session(b, "cmpl-1");
  clear(b, true);
  assert_int_equal(l1_stats(b).objects, 0);
  return a;
}

static reply wait_for(bench *b, const char *request, double seconds) {
  neap__writer args[] = {text_frame(request), {0}};
  uint64_t bits;
  memcpy(&bits, &seconds, sizeof(bits));
  uint8_t real[9] = {0xcb};
  for (uint32_t i = 0; i < 8; i++) real[1 + i] = (uint8_t)(bits >> (56 - 8 * i));
  neap__write_raw(&args[1], real, sizeof(real));
  return call(b, WAIT, args, 2);
}

/* Until nothing is loading any more, and the loop thread is through with what it was doing when the count fell. */
static void settle(bench *b) {
  neap__server_stats stats = server_stats(b);
  for (uint64_t start = neap__now_ns(); stats.active_fetches > 0 && neap__now_ns() - start < PATIENCE_NS;)
    stats = server_stats(b);
  assert_int_equal(stats.active_fetches, 0);
  neap__loop_settle(b->engine->loop);
}

static void a_hit_below_is_loaded_before_it_is_told(void **state) {
  bench *b = *state;
  ask a = stored_below(b), read = by_worker(a, 0);
  assert_int_equal(look(b, &a), CHUNKS);
  slots s = prepare(b, PREPARE_RETRIEVE, &read, WORKER);
  assert_true(s.success);
  /* Asking L1 also tells ThreadSanitizer, which does not see through a socket, that the loads are over. */
  assert_int_equal(l1_stats(b).objects, CHUNKS);
  for (uint32_t i = 0; i < s.count; i++) assert_int_equal(pool_at(b, s.offset[i])[SLOT_BYTES - 1], 0x66);
  assert_true(commit_retrieve(b, &read, WORKER));
  assert_int_equal(server_stats(b).lookup_hit_l2_tokens, CHUNKS * CHUNK);
  assert_int_equal(server_stats(b).lookup_hit_l1_tokens, 0);
}

static void a_status_is_empty_while_the_lookup_runs(void **state) {
  bench *b = *state;
  ask a = stored_below(b);
  lookup(b, &a);
  neap__writer arg = text_frame("cmpl-1");
  assert_false(call(b, STATUS, &arg, 1).found);
  assert_int_equal(status(b, "cmpl-1"), CHUNKS);
}

static void a_wait_is_answered_when_the_lookup_ends(void **state) {
  bench *b = *state;
  ask a = stored_below(b);
  lookup(b, &a);
  reply r = wait_for(b, "cmpl-1", 9.0);
  assert_int_equal(reply_uint(&r), CHUNKS);
  r = wait_for(b, "cmpl-1", 9.0);
  assert_int_equal(reply_uint(&r), 0);
}

static void a_wait_that_is_too_short_is_empty(void **state) {
  bench *b = *state;
  ask a = stored_below(b);
  lookup(b, &a);
  assert_false(wait_for(b, "cmpl-1", 0.0).found);
  assert_false(wait_for(b, "cmpl-1", 0.001).found);
  assert_int_equal(status(b, "cmpl-1"), CHUNKS);
}

static void others_are_served_while_one_waits(void **state) {
  bench *b = *state;
  ask a = stored_below(b);
  lookup(b, &a);
  neap__writer wait_op = uint_frame(WAIT), noop = uint_frame(NOOP);
  neap__writer args[] = {text_frame("cmpl-1"), uint_frame(9)};
  uint64_t waiting = send_request(b, &wait_op, args, 2);
  receive(b, send_request(b, &noop, NULL, 0), &noop);
  reply r = receive(b, waiting, &wait_op);
  assert_int_equal(reply_uint(&r), CHUNKS);
  neap__writer_free(&wait_op);
  neap__writer_free(&noop);
}

static void a_session_may_end_before_its_lookup(void **state) {
  bench *b = *state;
  ask a = stored_below(b);
  lookup(b, &a);
  end_session(b, "cmpl-1");
  assert_int_equal(status(b, "cmpl-1"), 0);
  settle(b);
  assert_int_equal(l1_stats(b).leased, 0);
}

static void a_new_lookup_replaces_a_running_one(void **state) {
  bench *b = *state;
  ask a = stored_below(b), shorter = prompt("cmpl-1", 100, 1);
  lookup(b, &a);
  assert_int_equal(look(b, &shorter), 1);
  settle(b);
  assert_int_equal(l1_stats(b).leased, 1);
  end_session(b, "cmpl-1");
  assert_int_equal(l1_stats(b).leased, 0);
}

static void a_lookup_ends_with_the_last_worker_of_its_model(void **state) {
  bench *b = *state;
  ask a = stored_below(b);
  lookup(b, &a);
  unregister(b, WORKER);
  assert_int_equal(status(b, "cmpl-1"), 0);
  settle(b);
  assert_int_equal(l1_stats(b).leased, 0);
}

static void waiting_replies_are_given_when_the_server_closes(void **state) {
  bench *b = *state;
  ask a = stored_below(b);
  lookup(b, &a);
  neap__writer wait_op = uint_frame(WAIT), noop = uint_frame(NOOP);
  neap__writer args[] = {text_frame("cmpl-1"), uint_frame(9)};
  uint64_t waiting = send_request(b, &wait_op, args, 2);
  receive(b, send_request(b, &noop, NULL, 0), &noop);
  neap__server_close(b->server);
  (void)receive(b, waiting, &wait_op);
  neap__server_config config = {.engine = b->engine, .host = "localhost", .session_ttl_s = 600};
  assert_int_equal(neap__server_open(&config, &b->server, NULL), 0);
  neap__writer_free(&wait_op);
  neap__writer_free(&noop);
}

/* --- other threads ------------------------------------------------------------------------------------------------ */

typedef struct onlooker {
  bench *b;
  atomic_bool stop;
  uint64_t looks;
} onlooker;

static void count_instance(void *ctx, const neap__instance_info *info) {
  if (strcmp(info->model, MODEL) == 0) ++*(uint32_t *)ctx;
}

static void *look_on(void *arg) {
  onlooker *o = arg;
  while (!atomic_load(&o->stop)) {
    uint32_t instances = 0, space;
    neap__server_each_instance(o->b->server, count_instance, &instances);
    (void)neap__server_find_space(o->b->server, MODEL, 1, &space);
    if (server_stats(o->b).requests > 0) o->looks++;
  }
  return NULL;
}

static void other_threads_may_look_on(void **state) {
  bench *b = *state;
  onlooker o = {.b = b};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, look_on, &o), 0);
  for (uint32_t i = 0; i < 300; i++) {
    ask a = prompt("cmpl-1", 100 * i, 1);
    register_worker(b, WORKER + i % 5);
    store(b, &a, WORKER + i % 5, 1);
    assert_int_equal(look(b, &a), 1);
    end_session(b, "cmpl-1");
    unregister(b, WORKER + i % 5);
  }
  atomic_store(&o.stop, true);
  pthread_join(thread, NULL);
  assert_true(o.looks > 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, bench_teardown)
  const struct CMUnitTest tests[] = {
      TEST(a_hit_below_is_loaded_before_it_is_told),
      TEST(a_status_is_empty_while_the_lookup_runs),
      TEST(a_wait_is_answered_when_the_lookup_ends),
      TEST(a_wait_that_is_too_short_is_empty),
      TEST(others_are_served_while_one_waits),
      TEST(a_session_may_end_before_its_lookup),
      TEST(a_new_lookup_replaces_a_running_one),
      TEST(a_lookup_ends_with_the_last_worker_of_its_model),
      TEST(waiting_replies_are_given_when_the_server_closes),
      cmocka_unit_test_setup_teardown(other_threads_may_look_on, bench_setup, bench_teardown),
  };
  return cmocka_run_group_tests_name("wire, while lookups take their time", tests, NULL, NULL);
}
