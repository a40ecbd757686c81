/* SPDX-License-Identifier: MIT
 *
 * Requests that a killed server took with it are answered by the next one: those it had received, and those that were
 * on their way to it. A request that was lost on the way is one whose uid the client has used and no server has seen.
 */
#include "serve/clients.h"
#include "support/wire_client.h"

enum { WORKER = 7 };

static uint64_t lose_a_request(bench *b) { return b->uid++; }

static void restart(bench *b) {
  bench_stop(b, true);
  bench_start(b, (uint64_t)4 << 20);
}

/* Sends a ping and receives, before its answer, the one for the lost request. */
static reply ping_after(bench *b, uint64_t lost, uint8_t lost_op) {
  neap__writer op = {0}, want = {0}, arg = uint_frame(WORKER);
  neap__write_uint(&op, PING);
  neap__write_uint(&want, lost_op);
  uint64_t uid = send_request(b, &op, &arg, 1);
  reply r = receive(b, lost, &want), own = receive(b, uid, &op);
  assert_true(reply_bool(&own));
  neap__writer_free(&op);
  neap__writer_free(&want);
  return r;
}

static void a_lost_commit_of_a_store_is_answered_false(void **state) {
  bench *b = *state;
  ask a = by_worker(prompt("cmpl-1", 100, 2), 0);
  register_worker(b, WORKER);
  assert_int_equal(prepare(b, PREPARE_STORE, &a, WORKER).count, 2);
  uint64_t lost = lose_a_request(b);
  restart(b);
  reply r = ping_after(b, lost, COMMIT_STORE);
  assert_false(reply_bool(&r));
  assert_int_equal(server_stats(b).reanswered, 1);
  assert_true(ping(b, WORKER)); /* once is enough */
}

static void a_lost_commit_of_a_retrieve_is_answered_true(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2), read = by_worker(a, 0);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  assert_int_equal(look(b, &a), 2);
  assert_true(prepare(b, PREPARE_RETRIEVE, &read, WORKER).success);
  uint64_t lost = lose_a_request(b);
  restart(b);
  reply r = ping_after(b, lost, COMMIT_RETRIEVE);
  assert_true(reply_bool(&r));
}

static void a_lost_request_of_an_idle_worker_is_taken_for_a_prepared_store(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  uint64_t lost = lose_a_request(b);
  restart(b);
  reply r = ping_after(b, lost, PREPARE_STORE);
  neap__reader reader = neap__reader_over(r.bytes, r.size);
  uint32_t pairs;
  assert_true(r.found);
  assert_int_equal(neap__read_map(&reader, &pairs), 0);
  assert_int_equal(pairs, 1);
}

static void a_lost_request_while_a_hit_is_promised_is_taken_for_a_prepared_retrieve(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  assert_int_equal(look(b, &a), 2);
  uint64_t lost = lose_a_request(b);
  restart(b);
  reply r = ping_after(b, lost, PREPARE_RETRIEVE);
  assert_true(r.found);
  end_session(b, "cmpl-1");
}

static void a_worker_that_goes_on_can_only_have_lost_a_ping(void **state) {
  bench *b = *state;
  ask a = by_worker(prompt("cmpl-1", 100, 2), 0);
  register_worker(b, WORKER);
  assert_true(ping(b, WORKER));
  uint64_t lost = lose_a_request(b);
  restart(b);
  neap__writer op = {0}, want = {0}, args[] = {key_frame(&a), uint_frame(WORKER)};
  neap__write_uint(&op, PREPARE_STORE);
  neap__write_uint(&want, PING);
  uint64_t uid = send_request(b, &op, args, 2);
  reply r = receive(b, lost, &want);
  assert_true(reply_bool(&r));
  assert_true(receive(b, uid, &op).found);
  neap__writer_free(&op);
  neap__writer_free(&want);
}

static void a_scheduler_is_told_a_miss(void **state) {
  bench *b = *state;
  neap__writer op = {0}, arg = text_frame("cmpl-1");
  ask a = prompt("cmpl-1", 100, 2);
  assert_int_equal(look(b, &a), 0);
  uint64_t lost = lose_a_request(b);
  restart(b);
  neap__write_uint(&op, STATUS);
  uint64_t uid = send_request(b, &op, &arg, 1);
  reply r = receive(b, lost, &op), own = receive(b, uid, &op);
  assert_int_equal(reply_uint(&r), 0);
  assert_int_equal(reply_uint(&own), 0);
  neap__writer_free(&op);
}

static void a_client_that_counts_from_the_start_again_is_another_one(void **state) {
  bench *b = *state;
  register_worker(b, WORKER);
  for (uint32_t i = 0; i < 5; i++) assert_true(ping(b, WORKER));
  b->uid = 0;
  restart(b);
  assert_true(ping(b, WORKER));
  assert_int_equal(server_stats(b).reanswered, 0);
}

/* --- what was received but not answered --------------------------------------------------------------------------- */

static void what_was_received_and_not_answered_is_known_with_its_operation(void **state) {
  (void)state;
  neap__l1_config config = {.pool_bytes = 1 << 20, .align_bytes = 4096, .chunk_tokens = CHUNK};
  neap__l1_report report;
  neap__l1 *l1;
  neap__clients clients;
  neap__unanswered lost;
  neap_error err;
  assert_int_equal(neap__l1_open(&config, &l1, &report, &err), 0);
  assert_int_equal(neap__clients_open(&clients, l1), 0);
  neap__client *worker = neap__client_meet(&clients, 1, WORKER, 10, 1, &lost);
  neap__client *scheduler = neap__client_meet(&clients, 2, 0, 100, 2, &lost);
  assert_int_equal(lost.to - lost.from, 0);
  neap__client_asked(&clients, worker, 10, COMMIT_STORE);
  neap__client_answered(&clients, worker);
  neap__client_asked(&clients, worker, 11, COMMIT_STORE);
  neap__client_asked(&clients, scheduler, 100, LOOKUP);
  neap__clients_close(&clients);

  assert_int_equal(neap__clients_open(&clients, l1), 0);
  assert_null(neap__client_find(&clients, 1, 3));
  neap__client_meet(&clients, 3, 0, 103, 3, &lost);
  assert_int_equal(lost.uid, 100);
  assert_int_equal(lost.op, LOOKUP);
  assert_int_equal(lost.from, 101);
  assert_int_equal(lost.to, 103);
  neap__client_meet(&clients, 4, 0, 104, 4, &lost); /* another scheduler: the first has been met */
  assert_int_equal(lost.op, 0);
  neap__client_meet(&clients, 5, WORKER, 12, 5, &lost);
  assert_int_equal(lost.uid, 11);
  assert_int_equal(lost.op, COMMIT_STORE);
  assert_int_equal(lost.to - lost.from, 0);
  neap__clients_close(&clients);
  neap__l1_close(l1, false);
}

static void more_clients_than_there_is_room_for_take_the_place_of_the_silent(void **state) {
  bench *b = *state;
  neap__clients clients;
  neap__unanswered lost;
  assert_int_equal(neap__clients_open(&clients, b->engine->l1), 0);
  for (uint64_t i = 0; i < 3 * NEAP_CLIENTS_MAX; i++) {
    neap__client *client = neap__client_meet(&clients, 1000 + i, 5000 + i, i, i, &lost);
    assert_non_null(client);
    assert_int_equal(lost.op, 0);
    neap__client_asked(&clients, client, i, PING);
    neap__client_answered(&clients, client);
  }
  neap__clients_close(&clients);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)
  const struct CMUnitTest tests[] = {
      TEST(a_lost_commit_of_a_store_is_answered_false),
      TEST(a_lost_commit_of_a_retrieve_is_answered_true),
      TEST(a_lost_request_of_an_idle_worker_is_taken_for_a_prepared_store),
      TEST(a_lost_request_while_a_hit_is_promised_is_taken_for_a_prepared_retrieve),
      TEST(a_worker_that_goes_on_can_only_have_lost_a_ping),
      TEST(a_scheduler_is_told_a_miss),
      TEST(a_client_that_counts_from_the_start_again_is_another_one),
      cmocka_unit_test(what_was_received_and_not_answered_is_known_with_its_operation),
      TEST(more_clients_than_there_is_room_for_take_the_place_of_the_silent),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
