/* SPDX-License-Identifier: MIT
 *
 * The wire front end as its clients meet it: a real engine, a real socket, requests as vLLM sends them. The tests named
 * after the words of the protocol's list of LMCache's defects show that none of them is here. */
#include "support/wire_client.h"

enum { WORKER = 7, OTHER = 8 };

/* --- the request life cycle -------------------------------------------------------------------------------------- */

static void what_is_stored_is_found_and_read_back(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 3), again = prompt("cmpl-2", 100, 3), read = by_worker(again, 0);
  register_worker(b, WORKER);
  assert_int_equal(look(b, &a), 0);
  store(b, &a, WORKER, 0x5a);
  end_session(b, "cmpl-1");
  assert_int_equal(look(b, &again), 3);
  slots s = prepare(b, PREPARE_RETRIEVE, &read, WORKER);
  assert_true(s.success);
  assert_int_equal(s.count, 3);
  for (uint32_t i = 0; i < s.count; i++) {
    assert_int_equal(pool_at(b, s.offset[i])[0], 0x5a);
    assert_int_equal(pool_at(b, s.offset[i])[SLOT_BYTES - 1], 0x5a);
  }
  assert_true(commit_retrieve(b, &read, WORKER));
  assert_int_equal(l1_stats(b).leased, 0);
  end_session(b, "cmpl-2");
  assert_int_equal(server_stats(b).retrieved_tokens, 3 * CHUNK);
}

static void a_status_is_delivered_once(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  assert_int_equal(look(b, &a), 2);
  assert_int_equal(status(b, "cmpl-1"), 0);
  assert_int_equal(status(b, "cmpl-unknown"), 0);
}

static void wait_answers_when_the_result_is_known(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  lookup(b, &a);
  neap__writer args[] = {text_frame("cmpl-1"), {0}};
  static const uint8_t half_a_second[] = {0xcb, 0x3f, 0xe0, 0, 0, 0, 0, 0, 0};
  neap__write_raw(&args[1], half_a_second, sizeof(half_a_second));
  reply r = call(b, WAIT, args, 2);
  assert_int_equal(reply_uint(&r), 2);
}

static void a_longer_prompt_hits_its_stored_prefix(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2), longer = prompt("cmpl-2", 100, 5);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  assert_int_equal(look(b, &longer), 2);
  longer.start = 2 * CHUNK;
  store(b, &longer, WORKER, 2);
  longer.start = 0;
  longer.request = "cmpl-3";
  assert_int_equal(look(b, &longer), 5);
}

static void a_prompt_shorter_than_a_chunk_hits_nothing(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 1);
  register_worker(b, WORKER);
  a.tokens = CHUNK - 1;
  a.end = 0;
  assert_int_equal(look(b, &a), 0);
  end_session(b, "cmpl-1");
}

static void a_second_writer_of_a_chunk_gets_no_slot(void **state) {
  bench *b = *state;
  ask a = by_worker(prompt("cmpl-1", 100, 3), 0);
  register_worker(b, WORKER);
  register_worker(b, OTHER);
  assert_int_equal(prepare(b, PREPARE_STORE, &a, WORKER).count, 3);
  assert_int_equal(prepare(b, PREPARE_STORE, &a, OTHER).count, 0);
  assert_false(commit_store(b, &a, OTHER));
  assert_true(commit_store(b, &a, WORKER));
  assert_false(commit_store(b, &a, WORKER));
  assert_int_equal(prepare(b, PREPARE_STORE, &a, OTHER).count, 0);
}

static void a_repeated_prepare_gets_the_same_slots(void **state) {
  bench *b = *state;
  ask a = by_worker(prompt("cmpl-1", 100, 3), 0);
  register_worker(b, WORKER);
  slots first = prepare(b, PREPARE_STORE, &a, WORKER), second = prepare(b, PREPARE_STORE, &a, WORKER);
  assert_int_equal(second.count, 3);
  assert_int_equal(second.indices, 3);
  assert_memory_equal(first.offset, second.offset, 3 * sizeof(first.offset[0]));
  assert_memory_equal(first.index, second.index, 3 * sizeof(first.index[0]));
  assert_true(commit_store(b, &a, WORKER));
  ask read = a;
  assert_int_equal(look(b, &(ask){.request = "cmpl-1", .first = 100, .tokens = 12, .end = 12, .worker = -1}), 3);
  first = prepare(b, PREPARE_RETRIEVE, &read, WORKER);
  second = prepare(b, PREPARE_RETRIEVE, &read, WORKER);
  assert_true(first.success && second.success);
  assert_memory_equal(first.offset, second.offset, 3 * sizeof(first.offset[0]));
  assert_true(commit_retrieve(b, &read, WORKER));
  assert_int_equal(l1_stats(b).leased, 0);
}

static void slot_indices_count_from_the_start_of_the_range(void **state) {
  bench *b = *state;
  ask middle = prompt("cmpl-1", 100, 3), all = by_worker(prompt("cmpl-1", 100, 4), 0);
  register_worker(b, WORKER);
  middle.start = 2 * CHUNK;
  store(b, &middle, WORKER, 1);
  all.start = CHUNK;
  slots s = prepare(b, PREPARE_STORE, &all, WORKER);
  assert_int_equal(s.count, 2);
  assert_int_equal(s.index[0], 0);
  assert_int_equal(s.index[1], 2);
}

static void pickled_data_is_not_stored(void **state) {
  bench *b = *state;
  ask a = by_worker(prompt("cmpl-1", 100, 2), 0);
  register_worker(b, WORKER);
  assert_int_equal(prepare(b, PREPARE_STORE, &a, WORKER).count, 2);
  neap__writer args[] = {key_frame(&a), uint_frame(WORKER), {0}};
  neap__write_raw(&args[2],
                  "\xc4\x03"
                  "abc",
                  5);
  reply r = call(b, COMMIT_STORE, args, 3);
  assert_false(reply_bool(&r));
  assert_int_equal(l1_stats(b).staged, 0);
  assert_int_equal(l1_stats(b).objects, 0);
}

static void a_chunk_counts_when_all_shards_have_it(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2);
  a.world = 2;
  assert_true(register_as(b, WORKER, MODEL, 2, 2) > 0);
  assert_true(register_as(b, OTHER, MODEL, 2, 2) > 0);
  ask zero = by_worker(a, 0), one = by_worker(a, 1);
  assert_int_equal(prepare(b, PREPARE_STORE, &zero, WORKER).count, 2);
  assert_true(commit_store(b, &zero, WORKER));
  assert_int_equal(look(b, &a), 0);
  one.end = CHUNK;
  assert_int_equal(prepare(b, PREPARE_STORE, &one, OTHER).count, 1);
  assert_true(commit_store(b, &one, OTHER));
  assert_int_equal(look(b, &a), 1);
  zero.end = CHUNK;
  assert_true(prepare(b, PREPARE_RETRIEVE, &zero, WORKER).success);
  assert_true(prepare(b, PREPARE_RETRIEVE, &one, OTHER).success);
  commit_retrieve(b, &zero, WORKER);
  commit_retrieve(b, &one, OTHER);
  assert_int_equal(l1_stats(b).leased, 0);
}

static void every_reader_of_a_replicated_chunk_is_counted(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 1), read = by_worker(a, 0);
  register_worker(b, WORKER);
  register_worker(b, OTHER);
  store(b, &a, WORKER, 1);
  a.readers = 2;
  assert_int_equal(look(b, &a), 1);
  assert_true(prepare(b, PREPARE_RETRIEVE, &read, WORKER).success);
  assert_true(commit_retrieve(b, &read, WORKER));
  assert_true(commit_retrieve(b, &read, WORKER));
  assert_int_equal(l1_stats(b).leased, 1);
  assert_true(prepare(b, PREPARE_RETRIEVE, &read, OTHER).success);
  assert_true(commit_retrieve(b, &read, OTHER));
  assert_int_equal(l1_stats(b).leased, 0);
}

static void tenants_do_not_see_each_others_chunks(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2);
  register_worker(b, WORKER);
  a.salt = "tenantA";
  store(b, &a, WORKER, 1);
  a.request = "cmpl-2";
  assert_int_equal(look(b, &a), 2);
  a.salt = "tenantB";
  assert_int_equal(look(b, &a), 0);
  a.salt = "";
  assert_int_equal(look(b, &a), 0);
}

static void stores_find_room_when_the_pool_is_full(void **state) {
  bench *b = *state;
  register_worker(b, WORKER);
  for (uint32_t i = 0; i < 1500; i++) {
    ask a = prompt("cmpl-1", 1000 * i, 2);
    store(b, &a, WORKER, 1);
    end_session(b, "cmpl-1");
  }
  assert_true(l1_stats(b).evicted_objects > 0);
}

static void a_promised_hit_is_kept_while_others_fill_the_pool(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-kept", 100, 4), read = by_worker(a, 0);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 0x77);
  assert_int_equal(look(b, &a), 4);
  for (uint32_t i = 1; i < 1500; i++) {
    ask other = prompt("cmpl-1", 1000 * i, 2);
    store(b, &other, WORKER, 1);
  }
  slots s = prepare(b, PREPARE_RETRIEVE, &read, WORKER);
  assert_true(s.success);
  for (uint32_t i = 0; i < s.count; i++) assert_int_equal(pool_at(b, s.offset[i])[0], 0x77);
}

/* --- defects that are not here ------------------------------------------------------------------------------------ */

static void unregistered_prepare_store(void **state) {
  bench *b = *state;
  ask a = by_worker(prompt("cmpl-1", 100, 2), 0);
  assert_int_equal(prepare(b, PREPARE_STORE, &a, WORKER).count, 0);
  assert_false(commit_store(b, &a, WORKER));
}

static void unregistered_retrieve(void **state) {
  bench *b = *state;
  ask a = by_worker(prompt("cmpl-1", 100, 2), 0);
  assert_false(prepare(b, PREPARE_RETRIEVE, &a, WORKER).success);
  assert_true(commit_retrieve(b, &a, WORKER));
  a.worker = -1;
  assert_int_equal(look(b, &a), 0);
}

static void zero_readers(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  a.readers = 0;
  assert_int_equal(look(b, &a), 2);
  end_session(b, "cmpl-1");
  assert_int_equal(l1_stats(b).leased, 0);
}

static void bad_salt(void **state) {
  bench *b = *state;
  static const char *const salts[] = {"a@b", "a/b", "a\\b"};
  register_worker(b, WORKER);
  for (uint32_t i = 0; i < NEAP_ARRAY_LEN(salts); i++) {
    ask a = prompt("cmpl-1", 100, 2);
    a.salt = salts[i];
    assert_int_equal(look(b, &a), 0);
    a.worker = 0;
    assert_int_equal(prepare(b, PREPARE_STORE, &a, WORKER).count, 0);
  }
  assert_int_equal(server_stats(b).refused, 2 * NEAP_ARRAY_LEN(salts));
}

static void unaligned_range(void **state) {
  bench *b = *state;
  ask a = by_worker(prompt("cmpl-1", 100, 3), 0);
  register_worker(b, WORKER);
  a.end = 2 * CHUNK + 1;
  assert_int_equal(prepare(b, PREPARE_STORE, &a, WORKER).count, 0);
  a.start = a.end = 2 * CHUNK;
  a.end = 100 * CHUNK;
  assert_int_equal(prepare(b, PREPARE_STORE, &a, WORKER).count, 0);
  a.start = 2 * CHUNK;
  a.end = CHUNK;
  assert_int_equal(prepare(b, PREPARE_STORE, &a, WORKER).count, 0);
  assert_false(prepare(b, PREPARE_RETRIEVE, &a, WORKER).success);
  assert_int_equal(l1_stats(b).staged, 0);
}

static void worker_id_nil_on_store(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2);
  register_worker(b, WORKER);
  assert_int_equal(prepare(b, PREPARE_STORE, &a, WORKER).count, 0);
  assert_int_equal(l1_stats(b).staged, 0);
}

static void token_range(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", UINT32_MAX - 1, 2);
  register_worker(b, WORKER);
  neap__writer args[] = {{0}, uint_frame(1)};
  neap__write_map(&args[0], 7);
  neap__write_text(&args[0], "token_ids");
  neap__write_raw(&args[0], "\x91\xcf\x00\x00\x00\x01\x00\x00\x00\x00", 10);
  neap__write_text(&args[0], "request_id");
  neap__write_text(&args[0], "cmpl-1");
  assert_false(call(b, LOOKUP, args, 2).found);
  assert_int_equal(status(b, "cmpl-1"), 0);
  a.first = UINT32_MAX - 7;
  assert_int_equal(look(b, &a), 0);
  assert_int_equal(server_stats(b).refused, 1);
}

static void end_session_releases_locks(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 3);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  assert_int_equal(look(b, &a), 3);
  assert_int_equal(l1_stats(b).leased, 3);
  end_session(b, "cmpl-1");
  assert_int_equal(l1_stats(b).leased, 0);
  end_session(b, "cmpl-1");
}

static void end_session_without_status(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 3);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  lookup(b, &a);
  end_session(b, "cmpl-1");
  assert_int_equal(l1_stats(b).leased, 0);
  assert_int_equal(status(b, "cmpl-1"), 0);
}

static void lookup_twice(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 3), shorter = prompt("cmpl-1", 100, 1);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  assert_int_equal(look(b, &a), 3);
  assert_int_equal(look(b, &shorter), 1);
  assert_int_equal(l1_stats(b).leased, 1);
  free_locks(b, &shorter);
  assert_int_equal(l1_stats(b).leased, 0);
}

static void double_free_is_harmless(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 3), other = prompt("cmpl-2", 100, 3);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  assert_int_equal(look(b, &a), 3);
  assert_int_equal(look(b, &other), 3);
  free_locks(b, &a);
  free_locks(b, &a);
  free_locks(b, &a);
  assert_int_equal(l1_stats(b).leased, 3);
  free_locks(b, &other);
  assert_int_equal(l1_stats(b).leased, 0);
}

static void locks_are_per_request(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 3), late = by_worker(prompt("cmpl-never-looked", 100, 3), 0);
  ask absent = by_worker(prompt("cmpl-absent", 100, 5), 0);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  assert_int_equal(look(b, &a), 3);
  assert_false(prepare(b, PREPARE_RETRIEVE, &absent, WORKER).success);
  assert_true(commit_retrieve(b, &absent, WORKER));
  assert_int_equal(l1_stats(b).leased, 3);
  assert_true(prepare(b, PREPARE_RETRIEVE, &late, WORKER).success);
  assert_true(commit_retrieve(b, &late, WORKER));
  free_locks(b, &late);
  assert_int_equal(l1_stats(b).leased, 3);
}

static void a_failed_retrieve_keeps_what_the_request_holds(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 3), too_much = by_worker(prompt("cmpl-1", 100, 4), 0), right = by_worker(a, 0);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  assert_int_equal(look(b, &a), 3);
  assert_false(prepare(b, PREPARE_RETRIEVE, &too_much, WORKER).success);
  assert_true(commit_retrieve(b, &too_much, WORKER));
  assert_true(prepare(b, PREPARE_RETRIEVE, &right, WORKER).success);
}

static void locks_are_freed_for_whole_chunks_only(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 4);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  assert_int_equal(look(b, &a), 4);
  a.end = 2 * CHUNK + 2;
  free_locks(b, &a);
  assert_int_equal(l1_stats(b).leased, 2);
  ask read = by_worker(a, 0);
  read.start = 2 * CHUNK;
  read.end = 4 * CHUNK;
  assert_true(prepare(b, PREPARE_RETRIEVE, &read, WORKER).success);
}

static void end_session_leaves_a_running_copy_alone(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 3), read = by_worker(a, 0);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 0x33);
  assert_int_equal(look(b, &a), 3);
  slots s = prepare(b, PREPARE_RETRIEVE, &read, WORKER);
  end_session(b, "cmpl-1");
  clear(b, false);
  assert_int_equal(l1_stats(b).objects, 3);
  assert_int_equal(pool_at(b, s.offset[2])[0], 0x33);
  assert_true(commit_retrieve(b, &read, WORKER));
  assert_int_equal(l1_stats(b).leased, 0);
}

static void unregister_drops_uncommitted(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2), write = by_worker(a, 0);
  register_worker(b, WORKER);
  register_worker(b, OTHER);
  assert_int_equal(prepare(b, PREPARE_STORE, &write, WORKER).count, 2);
  unregister(b, WORKER);
  assert_int_equal(l1_stats(b).staged, 0);
  assert_int_equal(l1_stats(b).objects, 0);
  assert_int_equal(look(b, &a), 0);
  assert_false(commit_store(b, &write, WORKER));
  assert_int_equal(prepare(b, PREPARE_STORE, &write, OTHER).count, 2);
}

static void a_worker_that_comes_back_has_no_reservation(void **state) {
  bench *b = *state;
  ask write = by_worker(prompt("cmpl-1", 100, 2), 0);
  register_worker(b, WORKER);
  assert_int_equal(prepare(b, PREPARE_STORE, &write, WORKER).count, 2);
  unregister(b, WORKER);
  register_worker(b, WORKER);
  assert_false(commit_store(b, &write, WORKER));
  assert_int_equal(l1_stats(b).objects, 0);
}

static void force_clear_keeps_bytes_in_flight(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2), read = by_worker(a, 0);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 0x11);
  assert_int_equal(look(b, &a), 2);
  slots s = prepare(b, PREPARE_RETRIEVE, &read, WORKER);
  clear(b, true);
  for (uint32_t i = 0; i < 1500; i++) {
    ask other = prompt("cmpl-2", 1000 * (i + 1), 2);
    store(b, &other, WORKER, 0x22);
  }
  for (uint32_t i = 0; i < s.count; i++) assert_int_equal(pool_at(b, s.offset[i])[0], 0x11);
  assert_true(commit_retrieve(b, &read, WORKER));
}

static void a_hit_promised_before_a_forced_clear_is_served(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2), read = by_worker(a, 0);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 0x11);
  assert_int_equal(look(b, &a), 2);
  clear(b, true);
  slots s = prepare(b, PREPARE_RETRIEVE, &read, WORKER);
  assert_true(s.success);
  end_session(b, "cmpl-1");
  assert_int_equal(pool_at(b, s.offset[1])[5], 0x11);
  assert_true(commit_retrieve(b, &read, WORKER));
  assert_int_equal(l1_stats(b).leases_used, 0);
}

static void commit_after_clear(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2), write = by_worker(a, 0);
  register_worker(b, WORKER);
  assert_int_equal(prepare(b, PREPARE_STORE, &write, WORKER).count, 2);
  clear(b, true);
  assert_false(commit_store(b, &write, WORKER));
  assert_int_equal(look(b, &a), 0);
  assert_int_equal(prepare(b, PREPARE_STORE, &write, WORKER).count, 2);
  assert_true(commit_store(b, &write, WORKER));
}

static void layout_mismatch(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2), read = by_worker(a, 0);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  assert_true(register_as(b, OTHER, MODEL, 1, 4) > 0);
  assert_false(prepare(b, PREPARE_RETRIEVE, &read, OTHER).success);
  assert_int_equal(look(b, &a), 0); /* one of the two could not read it */
  assert_int_equal(prepare(b, PREPARE_STORE, &read, OTHER).count, 2);
  assert_true(commit_store(b, &read, OTHER));
  assert_int_equal(look(b, &a), 2);
  slots mine = prepare(b, PREPARE_RETRIEVE, &read, WORKER), theirs = prepare(b, PREPARE_RETRIEVE, &read, OTHER);
  assert_true(mine.success && theirs.success);
  assert_int_not_equal(mine.offset[0], theirs.offset[0]);
}

static void the_last_worker_of_a_layout_takes_its_leases_along(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, 2);
  register_worker(b, WORKER);
  store(b, &a, WORKER, 1);
  assert_int_equal(look(b, &a), 2);
  unregister(b, WORKER);
  assert_int_equal(l1_stats(b).leased, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)
  const struct CMUnitTest tests[] = {
      TEST(what_is_stored_is_found_and_read_back),
      TEST(a_status_is_delivered_once),
      TEST(wait_answers_when_the_result_is_known),
      TEST(a_longer_prompt_hits_its_stored_prefix),
      TEST(a_prompt_shorter_than_a_chunk_hits_nothing),
      TEST(a_second_writer_of_a_chunk_gets_no_slot),
      TEST(a_repeated_prepare_gets_the_same_slots),
      TEST(slot_indices_count_from_the_start_of_the_range),
      TEST(pickled_data_is_not_stored),
      TEST(a_chunk_counts_when_all_shards_have_it),
      TEST(every_reader_of_a_replicated_chunk_is_counted),
      TEST(tenants_do_not_see_each_others_chunks),
      TEST(stores_find_room_when_the_pool_is_full),
      TEST(a_promised_hit_is_kept_while_others_fill_the_pool),
      TEST(unregistered_prepare_store),
      TEST(unregistered_retrieve),
      TEST(zero_readers),
      TEST(bad_salt),
      TEST(unaligned_range),
      TEST(worker_id_nil_on_store),
      TEST(token_range),
      TEST(end_session_releases_locks),
      TEST(end_session_without_status),
      TEST(lookup_twice),
      TEST(double_free_is_harmless),
      TEST(locks_are_per_request),
      TEST(a_failed_retrieve_keeps_what_the_request_holds),
      TEST(locks_are_freed_for_whole_chunks_only),
      TEST(end_session_leaves_a_running_copy_alone),
      TEST(unregister_drops_uncommitted),
      TEST(a_worker_that_comes_back_has_no_reservation),
      TEST(force_clear_keeps_bytes_in_flight),
      TEST(a_hit_promised_before_a_forced_clear_is_served),
      TEST(commit_after_clear),
      TEST(layout_mismatch),
      TEST(the_last_worker_of_a_layout_takes_its_leases_along),
  };
  return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
