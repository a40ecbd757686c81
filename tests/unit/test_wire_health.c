/* SPDX-License-Identifier: MIT
 *
 * The wire front end when something is wrong: restarts, workers that are unknown or gone, messages that no client
 * should send. After each of them the next request is answered. */
#include "support/wire_client.h"

enum { WORKER = 7, OTHER = 8 };

static unsigned seed;

static uint32_t pick(uint32_t below) { return (uint32_t)rand_r(&seed) % below; }

static void restart(bench *b) {
  bench_stop(b, true);
  bench_start(b, (uint64_t)4 << 20);
  assert_true(b->engine->report.took_over);
}

/* The next request is served, and nothing else is in the client's queue. */
static void assert_alive(bench *b) {
  reply r = call(b, CHUNK_SIZE, NULL, 0);
  assert_int_equal(reply_uint(&r), CHUNK);
}

/* --- restarts ---------------------------------------------------------------------------------------------------- */

static void a_restart_is_not_noticed_by_a_registered_worker(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 3);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 0x42);
  restart(b);
  assert_true(ping(b, WORKER));
  assert_int_equal(look(b, &a), 3);
  ask more = prompt("cmpl-1", 100, 4);
  more.start = 3 * CHUNK;
  store(b, &more, WORKER, 0x43);
}

static void a_hit_promised_before_a_restart_is_served_after_it(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 3), read = by_worker(a, 0);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 0x42);
  assert_int_equal(look(b, &a), 3);
  restart(b);
  clear(b, false);
  slots s = prepare(b, PREPARE_RETRIEVE, &read, WORKER);
  assert_true(s.success);
  for (uint32_t i = 0; i < s.count; i++) assert_int_equal(pool_at(b, s.offset[i])[0], 0x42);
  assert_true(commit_retrieve(b, &read, WORKER));
  end_session(b, "cmpl-1");
  assert_int_equal(l1_stats(b).leases_used, 0);
}

static void locks_of_before_a_restart_can_be_freed_after_it(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 3);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  assert_int_equal(look(b, &a), 3);
  restart(b);
  a.end = 2 * CHUNK;
  free_locks(b, &a);
  assert_int_equal(l1_stats(b).leased, 1);
  end_session(b, "cmpl-1");
  assert_int_equal(l1_stats(b).leased, 0);
}

static void a_copy_under_way_goes_on_over_a_restart(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 3), read = by_worker(a, 0), write = by_worker(prompt("cmpl-2", 900, 2), 0);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 0x42);
  assert_int_equal(look(b, &a), 3);
  slots out = prepare(b, PREPARE_RETRIEVE, &read, WORKER), in = prepare(b, PREPARE_STORE, &write, WORKER);
  restart(b);
  end_session(b, "cmpl-1");
  clear(b, false);
  assert_int_equal(pool_at(b, out.offset[2])[0], 0x42);
  slots again = prepare(b, PREPARE_RETRIEVE, &read, WORKER);
  assert_memory_equal(again.offset, out.offset, 3 * sizeof(out.offset[0]));
  assert_true(commit_retrieve(b, &read, WORKER));
  assert_int_equal(l1_stats(b).leased, 0);
  for (uint32_t i = 0; i < in.count; i++) memset(pool_at(b, in.offset[i]), 0x24, SLOT_BYTES);
  assert_true(commit_store(b, &write, WORKER));
  write.worker = -1;
  assert_int_equal(look(b, &write), 2);
}

/* --- workers ----------------------------------------------------------------------------------------------------- */

static void an_unknown_worker_is_told_false_once(void **state) {
  bench *b = *state;
  assert_false(ping(b, WORKER));
  assert_true(ping(b, WORKER));
  assert_int_equal(server_stats(b).pings_refused, 1);
  neap__writer nil = {0};
  neap__write_nil(&nil);
  reply r = call(b, PING, &nil, 1);
  assert_true(reply_bool(&r));
}

static void nothing_is_promised_while_a_worker_has_to_register_again(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  assert_false(ping(b, OTHER));
  assert_int_equal(look(b, &a), 0);
  register_worker(b, OTHER);
  assert_int_equal(look(b, &a), 2);
}

static void a_worker_that_said_goodbye_holds_nobody_up(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2);
  register_worker(b, WORKER);
  register_worker(b, OTHER);
  store(b, &a, WORKER, 1);
  unregister(b, OTHER);
  assert_true(ping(b, OTHER));
  assert_int_equal(look(b, &a), 2);
}

static void registering_again_changes_nothing(void **state) {
  bench *b = *state;
  ask a = by_worker(prompt("cmpl-1", 100, 2), 0);
  register_worker(b, WORKER);
  assert_int_equal(prepare(b, PREPARE_STORE, &a, WORKER).count, 2);
  register_worker(b, WORKER);
  assert_true(register_as(b, WORKER, MODEL, 1, 4) > 0); /* another layout: the first stays */
  assert_int_equal(server_stats(b).instances, 1);
  assert_true(commit_store(b, &a, WORKER));
}

static void a_worker_with_an_absurd_layout_runs_uncached(void **state) {
  bench *b = *state;
  ask a = by_worker(prompt("cmpl-1", 100, 2), 0);
  assert_int_equal(register_as(b, WORKER, MODEL, 1, 0), 0);
  assert_int_equal(register_as(b, WORKER, MODEL, 1, UINT32_MAX), 0);
  assert_int_equal(register_as(b, WORKER, MODEL, 0, 2), 0);
  assert_int_equal(register_as(b, WORKER, MODEL, 256, 2), 0);
  assert_int_equal(register_as(b, WORKER, "a@b", 1, 2), 0);
  assert_int_equal(prepare(b, PREPARE_STORE, &a, WORKER).count, 0);
}

static void a_silent_worker_is_reaped_and_its_reservation_dropped(void **state) {
  bench *b = *state;
  ask a = by_worker(prompt("cmpl-1", 100, 2), 0);
  neap_error err = {{0}};
  neap__server *reaper;
  /* A second front end of the same engine, whose patience is short. */
  neap__server_config config = {.engine = b->engine,
                                .host = "127.0.0.1",
                                .reap_timeout_s = 0.02,
                                .registration_grace_s = 0.02,
                                .session_ttl_s = 600};
  register_worker(b, WORKER);
  assert_int_equal(prepare(b, PREPARE_STORE, &a, WORKER).count, 2);
  assert_int_equal(l1_stats(b).staged, 2);
  if (neap__server_open(&config, &reaper, &err)) fail_msg("%s", err.text);
  neap__server_stats stats = {0};
  for (uint64_t start = neap__now_ns(); stats.reaped == 0 && neap__now_ns() - start < 10000000000u;)
    neap__server_stats_get(reaper, &stats);
  assert_int_equal(stats.reaped, 1);
  neap__server_close(reaper);
  assert_int_equal(l1_stats(b).staged, 0);
}

static void an_address_in_use_is_refused_by_name(void **state) {
  bench *b = *state;
  neap_error err = {{0}};
  neap__server *second;
  neap__server_config config = {.engine = b->engine, .host = "localhost", .port = neap__server_port(b->server)};
  assert_int_equal(neap__server_open(&config, &second, &err), NEAP_EBUSY);
  assert_non_null(strstr(err.text, "127.0.0.1"));
  config.port = 65536;
  assert_int_equal(neap__server_open(&config, &second, &err), NEAP_EINVAL);
  assert_non_null(strstr(err.text, "port: 65536"));
  assert_alive(b);
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

static void short_message(void **state) {
  bench *b = *state;
  assert_int_equal(zmq_send(b->socket, "x", 1, 0), 1);
  assert_int_equal(zmq_send(b->socket, "", 0, 0), 0);
  assert_alive(b);
  assert_int_equal(server_stats(b).bad_messages, 2);
}

static void stream_control_and_unknown_operations_are_not_answered(void **state) {
  bench *b = *state;
  static const char *const ops[] = {"",
                                    "\x7f",
                                    "\xcd\x01\x00",
                                    "\xa3"
                                    "abc",
                                    "\xc0",
                                    "\xc1",
                                    "\x90",
                                    "\xff"};
  for (uint32_t round = 0; round < 3; round++) {
    for (uint32_t i = 0; i < NEAP_ARRAY_LEN(ops); i++) {
      zmq_send(b->socket, "\x05", 1, ZMQ_SNDMORE);
      zmq_send(b->socket, ops[i], i == 2 ? 3 : strlen(ops[i]), ZMQ_SNDMORE);
      zmq_send(b->socket, "ack", 3, 0);
    }
  }
  assert_alive(b);
  assert_int_equal(server_stats(b).bad_messages, 3 * (NEAP_ARRAY_LEN(ops) - 1));
}

static void too_many_frames_are_ignored(void **state) {
  bench *b = *state;
  for (uint32_t i = 0; i < 100; i++) zmq_send(b->socket, "\x08", 1, i < 99 ? ZMQ_SNDMORE : 0);
  assert_alive(b);
  assert_int_equal(server_stats(b).bad_messages, 1);
}

static void a_name_serves_as_well_as_a_number(void **state) {
  bench *b = *state;
  neap__writer op = text_frame("get_chunk_size");
  reply r = receive(b, send_request(b, &op, NULL, 0), &op);
  assert_int_equal(reply_uint(&r), CHUNK);
  neap__writer_free(&op);
}

static void the_small_operations_have_their_answers(void **state) {
  bench *b = *state;
  reply r = call(b, NOOP, NULL, 0);
  assert_int_equal(r.size, 3);
  assert_memory_equal(r.bytes, "\xa2OK", 3);
  r = call(b, EXPERIMENTAL, NULL, 0);
  assert_int_equal(r.size, 1);
  assert_int_equal(r.bytes[0], 0x90);
  neap__writer args[] = {uint_frame(1), text_frame(MODEL), {0}};
  neap__write_array(&args[2], 0);
  assert_false(call(b, REPORT, args, 3).found);
}

static void an_event_stream_is_declined_and_closed(void **state) {
  bench *b = *state;
  neap__writer op = text_frame("subscribe_kv_events");
  neap__writer args[] = {uint_frame(WORKER), text_frame(MODEL), uint_frame(0), uint_frame(1024)};
  uint64_t uid = send_request(b, &op, args, 4);
  reply batch = receive(b, uid, &op);
  assert_true(batch.found);
  static const char enabled_false[] =
      "\x85\xa7"
      "enabled\xc2";
  assert_memory_equal(batch.bytes, enabled_false, sizeof(enabled_false) - 1);
  assert_false(receive(b, uid, &op).found);
  neap__writer_free(&op);
  assert_alive(b);
}

/* Which neutral answer each operation gives to arguments that make no sense. */
static void every_operation_answers_nonsense(void **state) {
  bench *b = *state;
  static const struct {
    uint64_t op;
    int payload;
  } ops[] = {{LOOKUP, -1},
             {STATUS, 0x00},
             {WAIT, 0x00},
             {FREE_LOCKS, -1},
             {END, -1},
             {REGISTER, 0x82},
             {UNREGISTER, -1},
             {PREPARE_STORE, 0x81},
             {COMMIT_STORE, 0xc2},
             {PREPARE_RETRIEVE, 0x83},
             {COMMIT_RETRIEVE, 0xc3},
             {CLEAR, -1},
             {PING, 0xc3}};
  for (uint32_t i = 0; i < NEAP_ARRAY_LEN(ops); i++) {
    for (uint32_t count = 0; count <= 5; count++) {
      neap__writer args[5] = {{0}};
      for (uint32_t a = 0; a < count; a++) neap__write_raw(&args[a], "\xc1", 1);
      reply r = call(b, ops[i].op, args, count);
      assert_int_equal(r.found, ops[i].payload >= 0);
      if (r.found) assert_int_equal(r.bytes[0], ops[i].payload);
    }
  }
  assert_int_equal(server_stats(b).refused, 6 * NEAP_ARRAY_LEN(ops));
}

static void clients_of_the_other_mode_do_not_disturb(void **state) {
  bench *b = *state;
  static const uint64_t silent[] = {1, 3, 5, 6, 7, 25, 27, 28, 29, 30, 31, 33};
  for (uint32_t i = 0; i < NEAP_ARRAY_LEN(silent); i++) {
    neap__writer op = uint_frame(silent[i]), arg = uint_frame(1);
    send_request(b, &op, &arg, 1);
    neap__writer_free(&op);
  }
  neap__writer arg = uint_frame(1);
  assert_false(call(b, 2, &arg, 1).found);
}

/* Any change of a good request is answered, and the server lives. */
static void damaged_requests_are_answered(void **state) {
  bench *b = *state;
  static const uint64_t ops[] = {LOOKUP, FREE_LOCKS, PREPARE_STORE, COMMIT_STORE, PREPARE_RETRIEVE, COMMIT_RETRIEVE};
  register_worker(b, WORKER);
  for (uint32_t i = 0; i < 3000; i++) {
    ask a = prompt("cmpl-1", pick(4) * 100, 1 + pick(6));
    a.worker = pick(3) == 0 ? -1 : 0;
    a.start = pick(2) * CHUNK;
    neap__writer args[] = {key_frame(&a), uint_frame(WORKER), {0}};
    neap__write_empty_bin(&args[2]);
    for (uint32_t changes = pick(3); changes > 0; changes--)
      args[0].at[pick((uint32_t)args[0].bytes)] = (uint8_t)pick(256);
    if (pick(8) == 0) args[0].bytes = pick((uint32_t)args[0].bytes + 1);
    uint64_t op = ops[pick(NEAP_ARRAY_LEN(ops))];
    reply r = call(b, op, args, op == COMMIT_STORE ? 3 : 2);
    assert_int_equal(r.found, op != LOOKUP && op != FREE_LOCKS);
    if (op != COMMIT_STORE) neap__writer_free(&args[2]);
  }
  unregister(b, WORKER);
  assert_int_equal(l1_stats(b).leases_used, 0);
}

static void requests_of_one_connection_take_effect_in_order(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  neap__writer lookup_op = uint_frame(LOOKUP), end_op = uint_frame(END);
  uint64_t first = b->uid;
  for (uint32_t i = 0; i < 200; i++) {
    neap__writer args[] = {key_frame(&a), uint_frame(1)}, request = text_frame("cmpl-1");
    send_request(b, &lookup_op, args, 2);
    send_request(b, &end_op, &request, 1);
  }
  for (uint64_t uid = first; uid < b->uid; uid++) receive(b, uid, (uid - first) % 2 ? &end_op : &lookup_op);
  neap__writer_free(&lookup_op);
  neap__writer_free(&end_op);
  assert_int_equal(l1_stats(b).leased, 0);
  assert_int_equal(server_stats(b).sessions, 0);
}

int main(void) {
  const char *given = getenv("NEAP_SEED");
  seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)neap__now_ns();
  printf("seed %u\n", seed);
#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)
  const struct CMUnitTest tests[] = {
      TEST(a_restart_is_not_noticed_by_a_registered_worker),
      TEST(a_hit_promised_before_a_restart_is_served_after_it),
      TEST(locks_of_before_a_restart_can_be_freed_after_it),
      TEST(a_copy_under_way_goes_on_over_a_restart),
      TEST(an_unknown_worker_is_told_false_once),
      TEST(nothing_is_promised_while_a_worker_has_to_register_again),
      TEST(a_worker_that_said_goodbye_holds_nobody_up),
      TEST(registering_again_changes_nothing),
      TEST(a_worker_with_an_absurd_layout_runs_uncached),
      TEST(a_silent_worker_is_reaped_and_its_reservation_dropped),
      TEST(an_address_in_use_is_refused_by_name),
      TEST(short_message),
      TEST(stream_control_and_unknown_operations_are_not_answered),
      TEST(too_many_frames_are_ignored),
      TEST(a_name_serves_as_well_as_a_number),
      TEST(the_small_operations_have_their_answers),
      TEST(an_event_stream_is_declined_and_closed),
      TEST(every_operation_answers_nonsense),
      TEST(clients_of_the_other_mode_do_not_disturb),
      TEST(damaged_requests_are_answered),
      TEST(requests_of_one_connection_take_effect_in_order),
  };
  return cmocka_run_group_tests_name("wire, when something is wrong", tests, NULL, NULL);
}
