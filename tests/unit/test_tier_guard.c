/* SPDX-License-Identifier: MIT
 *
 * What a tier guarantees around a store that is slow, fails, hangs, is full, or is asked for the same twice. */
#include "support/tier_probe.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"

/* The limits of the adapter, to be changed before the tier opens. */
static neap__limits *limits(probe_engine *e) {
  if (!e->config.limits.concurrency) e->config.limits = neap__limits_of(&probe_table);
  return &e->config.limits;
}

static probe_request *wait_released(probe_request *r) {
  probe_wait(&r->released); /* done comes before */
  assert_int_equal(r->dones, 1);
  assert_int_equal(r->releases, 1);
  assert_false(r->inside || r->changed);
  return r;
}

static int result_of(probe_request *r) {
  int result = wait_released(r)->results[0];
  probe_request_free(r);
  return result;
}

/* Asks until the answer is this one, at most 30 s. */
static void until(probe_engine *e, neap_op_kind kind, uint32_t n, int result) {
  uint64_t end = neap__now_ns() + UINT64_C(30000000000);
  while (probe_run(e, kind, n, 1) != result) assert_true(neap__now_ns() < end);
}

/* --- what the adapter declares -------------------------------------------------------------------------------- */

static void a_long_task_reaches_the_adapter_in_the_declared_pieces(void **state) {
  probe_engine *e = *state;
  const neap_traits traits = {.size = sizeof(traits), .concurrency = 2, .batch = 4};
  probe_table.traits = &traits;
  probe_open_tier(e);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 0, 18), 0);
  assert_int_equal(probe_ops(NEAP_OP_STORE), 5);
  assert_int_equal(probe_script.longest, 4);
  probe_answers(NEAP_OP_LOAD, LATER);
  probe_request *r = probe_post(e, NEAP_OP_LOAD, 0, 18, 0);
  for (uint32_t i = 0; i < 5; i++) {
    probe_wait_held(NEAP_MIN(i + 2, 5u));
    probe_drain(e);
    assert_int_equal(probe_script.held_count, NEAP_MIN(i + 2, 5u)); /* two at once */
    assert_int_equal(r->dones, 0);
    probe_finish_held(i);
  }
  wait_released(r);
  for (uint32_t i = 0; i < 18; i++) assert_int_equal(r->results[i], 0);
  probe_request_free(r);
  assert_int_equal(probe_stats(e).loaded_objects, 18);
}

static void with_one_place_writes_and_reads_take_turns(void **state) {
  probe_engine *e = *state;
  limits(e)->concurrency = 1;
  probe_open_tier(e);
  probe_answers(NEAP_OP_STORE, LATER);
  probe_request *store = probe_post(e, NEAP_OP_STORE, 1, 1, 0);
  probe_wait_held(1);
  probe_request *lookup = probe_post(e, NEAP_OP_LOOKUP, 1, 1, 0);
  probe_drain(e);
  assert_int_equal(probe_ops(NEAP_OP_LOOKUP), 0);
  probe_finish_held(0);
  assert_int_equal(result_of(store), 0);
  assert_int_equal(result_of(lookup), 0);
}

static void an_operation_has_its_own_deadline_and_the_others_their_results(void **state) {
  probe_engine *e = *state;
  limits(e)->deadline_ms = 1000;
  limits(e)->batch = 1;
  probe_open_tier(e);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 0, 3), 0);
  probe_script.later_from = 1; /* the first answers at once: its deadline is no race with this thread */
  probe_answers(NEAP_OP_LOAD, LATER);
  probe_request *r = probe_post(e, NEAP_OP_LOAD, 0, 3, 0);
  probe_wait(&r->done);
  assert_int_equal(r->results[0], 0);
  assert_int_equal(r->results[1], NEAP_ETIMEDOUT);
  assert_int_equal(r->results[2], NEAP_ETIMEDOUT);
  probe_wait_cancels(2);
  assert_int_equal(r->releases, 0); /* the adapter may still write two of the buffers */
  probe_finish_held(0);
  probe_finish_held(1);
  probe_wait(&r->released);
  probe_request_free(r);
  assert_int_equal(probe_stats(e).deadlines, 2);
}

/* --- another try ---------------------------------------------------------------------------------------------- */

static void only_the_objects_that_failed_are_tried_again(void **state) {
  probe_engine *e = *state;
  limits(e)->retries = 2;
  limits(e)->backoff_ms = 1;
  probe_open_tier(e);
  probe_script.fails[2] = 2;
  probe_script.fails[5] = 1;
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 0, 8), 0);
  assert_int_equal(probe_ops(NEAP_OP_STORE), 3);
  assert_int_equal(probe_stats(e).retried_objects, 3);
  assert_int_equal(probe_stats(e).stored_objects, 8);
  assert_int_equal(probe_stats(e).used_bytes, 8 * PROBE_BYTES);
  assert_int_equal(probe_stats(e).store_failures[-NEAP_EIO], 3);
  probe_script.fails[2] = 1;
  assert_int_equal(probe_run(e, NEAP_OP_LOAD, 2, 1), 0);
  assert_int_equal(probe_load(e, 9), NEAP_ENOENT); /* an answer is not asked for again */
  assert_int_equal(probe_ops(NEAP_OP_LOAD), 3);
}

static void attempts_are_counted_and_end_with_the_tasks_deadline(void **state) {
  probe_engine *e = *state;
  limits(e)->retries = 3;
  limits(e)->backoff_ms = 1;
  limits(e)->breaker_failures = 0;
  probe_open_tier(e);
  probe_script.fails[1] = 255;
  assert_int_equal(probe_store(e, 1), NEAP_EIO);
  assert_int_equal(probe_ops(NEAP_OP_STORE), 4);
  neap__tier_close(e->tier, 30000);
  e->tier = NULL;
  probe_script.closed = 0;

  limits(e)->backoff_ms = 60000; /* longer than anybody waits */
  probe_open_tier(e);
  assert_int_equal(result_of(probe_post(e, NEAP_OP_STORE, 1, 1, 10000)), NEAP_EIO);
  assert_int_equal(probe_ops(NEAP_OP_STORE), 5);
}

static void a_late_store_is_tried_again_and_a_late_load_is_not(void **state) {
  probe_engine *e = *state;
  limits(e)->retries = 10; /* one of them is answered in time, however slow this thread is */
  limits(e)->backoff_ms = 1;
  limits(e)->deadline_ms = 200;
  limits(e)->breaker_failures = 0;
  probe_open_tier(e);
  probe_answers(NEAP_OP_STORE, LATER);
  probe_request *r = probe_post(e, NEAP_OP_STORE, 1, 1, 0);
  probe_wait_held(2); /* the second while the adapter still has the first */
  probe_answers(NEAP_OP_STORE, AT_ONCE);
  probe_wait(&r->done);
  assert_int_equal(r->results[0], 0);
  assert_int_equal(r->releases, 0);
  uint32_t late = probe_script.held_count;
  for (uint32_t i = 0; i < late; i++) probe_finish_held(i);
  assert_int_equal(result_of(r), 0);
  probe_answers(NEAP_OP_LOAD, LATER);
  r = probe_post(e, NEAP_OP_LOAD, 1, 1, 0);
  probe_wait(&r->done);
  assert_int_equal(r->results[0], NEAP_ETIMEDOUT);
  assert_int_equal(probe_ops(NEAP_OP_LOAD), 1);
  probe_finish_held(late);
  probe_wait(&r->released);
  probe_request_free(r);
}

static void close_does_not_wait_for_another_try(void **state) {
  probe_engine *e = *state;
  limits(e)->retries = 5;
  limits(e)->backoff_ms = 60000;
  limits(e)->deadline_ms = 3600000;
  probe_open_tier(e);
  probe_script.fails[1] = 255;
  probe_request *r = probe_post(e, NEAP_OP_LOAD, 1, 1, 0);
  probe_wait_ops(NEAP_OP_LOAD, 1);
  neap__tier_close(e->tier, 30000);
  e->tier = NULL;
  assert_int_equal(probe_script.closed, 1);
  int result = result_of(r);
  assert_true(result == NEAP_ECANCELED || result == NEAP_EIO);
}

/* --- breaker -------------------------------------------------------------------------------------------------- */

static void an_open_breaker_answers_at_once_and_a_probe_closes_it(void **state) {
  probe_engine *e = *state;
  limits(e)->cooldown_ms = 5;
  limits(e)->probe_ms = 3600000;
  limits(e)->negative_ms = 0;
  probe_open_tier(e);
  assert_int_equal(probe_store(e, 1), 0);
  probe_answers(NEAP_OP_LOOKUP, LATER); /* the probe is held until the end */
  probe_force(NEAP_EIO);
  for (uint32_t i = 0; i < 5; i++) assert_int_equal(probe_load(e, 1), NEAP_EIO);
  assert_int_not_equal(probe_stats(e).breaker, NEAP_BREAKER_CLOSED);
  probe_wait_held(1);
  assert_int_equal(probe_stats(e).breaker, NEAP_BREAKER_HALF_OPEN);
  assert_false(probe_stats(e).healthy);
  uint32_t calls = probe_script.calls;
  assert_int_equal(probe_lookup(e, 1), NEAP_EIO);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 2, 3), NEAP_EIO);
  assert_int_equal(probe_load(e, 1), NEAP_EIO);
  assert_int_equal(probe_script.calls, calls);
  assert_int_equal(probe_stats(e).breaker_refused, 5);
  probe_answers(NEAP_OP_LOOKUP, AT_ONCE);
  probe_force(1);
  probe_finish_held(0);
  until(e, NEAP_OP_LOAD, 1, 0);
  assert_int_equal(probe_stats(e).breaker, NEAP_BREAKER_CLOSED);
  assert_int_equal(probe_stats(e).breaker_opened, 1);
  assert_true(probe_stats(e).healthy);
  assert_int_equal(probe_stats(e).lookups, 0); /* of nobody but the framework */
  assert_int_equal(probe_stats(e).used_bytes, PROBE_BYTES);
}

static void probes_go_on_until_one_is_answered(void **state) {
  probe_engine *e = *state;
  limits(e)->cooldown_ms = 1;
  limits(e)->cooldown_max_ms = 4;
  limits(e)->breaker_failures = 1;
  probe_open_tier(e);
  probe_force(NEAP_EIO);
  assert_int_equal(probe_load(e, 1), NEAP_EIO);
  probe_wait_ops(NEAP_OP_LOOKUP, 5);
  assert_int_not_equal(probe_stats(e).breaker, NEAP_BREAKER_CLOSED);
  probe_force(NEAP_ENOENT);
  until(e, NEAP_OP_LOAD, 1, NEAP_ENOENT);
  assert_int_equal(probe_stats(e).breaker_opened, 1);
}

static void answers_in_between_keep_the_breaker_closed(void **state) {
  probe_engine *e = *state;
  for (uint32_t i = 0; i < 20; i++) {
    probe_force(i % 5 == 4 ? NEAP_ENOENT : NEAP_EIO);
    probe_load(e, 1);
  }
  probe_force(NEAP_EPERM); /* no, is an answer */
  for (uint32_t i = 0; i < 10; i++) assert_int_equal(probe_load(e, 1), NEAP_EPERM);
  assert_int_equal(probe_stats(e).breaker_opened, 0);
}

static void a_probe_alone_does_not_close_the_breaker_of_a_tier_that_has_no_place_left(void **state) {
  probe_engine *e = *state;
  limits(e)->deadline_ms = 20;
  limits(e)->concurrency = limits(e)->breaker_failures = 2;
  limits(e)->cooldown_ms = limits(e)->cooldown_max_ms = 1;
  probe_open_tier(e);
  probe_answers(NEAP_OP_LOAD, LATER);
  probe_request *hung[2] = {probe_post(e, NEAP_OP_LOAD, 1, 1, 0), probe_post(e, NEAP_OP_LOAD, 2, 1, 0)};
  for (uint32_t i = 0; i < 2; i++) probe_wait(&hung[i]->done);
  probe_wait_ops(NEAP_OP_LOOKUP, 3); /* all of them answered */
  assert_int_equal(probe_load(e, 3), NEAP_EIO);
  probe_answers(NEAP_OP_LOAD, AT_ONCE);
  probe_finish_held(0);
  until(e, NEAP_OP_LOAD, 3, NEAP_ENOENT);
  probe_finish_held(1);
  for (uint32_t i = 0; i < 2; i++) {
    probe_wait(&hung[i]->released);
    probe_request_free(hung[i]);
  }
  assert_int_equal(probe_stats(e).breaker_opened, 1);
}

static void who_had_no_time_to_wait_says_nothing_about_the_tier(void **state) {
  probe_engine *e = *state;
  limits(e)->breaker_failures = 1;
  probe_open_tier(e);
  probe_answers(NEAP_OP_LOOKUP, LATER);
  probe_request *r = probe_post(e, NEAP_OP_LOOKUP, 1, 1, 1);
  probe_wait(&r->done);
  assert_int_equal(r->results[0], NEAP_ETIMEDOUT);
  assert_int_equal(probe_stats(e).breaker, NEAP_BREAKER_CLOSED);
  probe_finish_held(0);
  probe_wait(&r->released);
  probe_request_free(r);
}

static void a_hung_tier_lets_go_of_everybody_who_waits(void **state) {
  probe_engine *e = *state;
  limits(e)->deadline_ms = 20;
  limits(e)->concurrency = 4;
  limits(e)->breaker_failures = 4;
  limits(e)->cooldown_ms = 1;
  limits(e)->probe_ms = 1;
  probe_open_tier(e);
  for (int kind = 0; kind < 3; kind++) probe_answers((neap_op_kind)kind, LATER);
  probe_request *all[40];
  for (uint32_t i = 0; i < 40; i++) all[i] = probe_post(e, (neap_op_kind)(i % 3), i, 1, 3600000);
  for (uint32_t i = 0; i < 40; i++) {
    probe_wait(&all[i]->done); /* most never reached the adapter: it had four and hung */
    assert_true(all[i]->results[0] == NEAP_EIO || all[i]->results[0] == NEAP_ETIMEDOUT);
  }
  probe_wait_held(4 + 4); /* four probes, and no fifth */
  probe_drain(e);
  assert_int_equal(probe_script.calls, 8);
  for (int kind = 0; kind < 3; kind++) probe_answers((neap_op_kind)kind, AT_ONCE);
  for (uint32_t i = 0; i < 8; i++) probe_finish_held(i);
  until(e, NEAP_OP_LOOKUP, 1000, NEAP_ENOENT);
  for (uint32_t i = 0; i < 40; i++) probe_request_free(wait_released(all[i]));
  assert_int_equal(probe_stats(e).in_flight_stores + probe_stats(e).in_flight_loads + probe_stats(e).queued, 0);
}

static void without_a_breaker_a_failing_tier_is_asked_for_ever(void **state) {
  probe_engine *e = *state;
  limits(e)->breaker_failures = 0;
  probe_open_tier(e);
  probe_force(NEAP_EIO);
  for (uint32_t i = 0; i < 20; i++) assert_int_equal(probe_load(e, 1), NEAP_EIO);
  assert_int_equal(probe_ops(NEAP_OP_LOAD), 20);
  assert_false(probe_stats(e).healthy);
}

/* --- keys whose store failed ---------------------------------------------------------------------------------- */

static void a_key_whose_store_failed_is_not_stored_again_for_a_while(void **state) {
  probe_engine *e = *state;
  limits(e)->negative_ms = 3600000;
  probe_open_tier(e);
  probe_script.fails[1] = 1;
  assert_int_equal(probe_store(e, 1), NEAP_EIO);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 1, 2), NEAP_EIO); /* its neighbour is stored */
  assert_int_equal(probe_ops(NEAP_OP_STORE), 2);
  assert_int_equal(probe_stats(e).negative_hits, 1);
  assert_int_equal(probe_stats(e).store_failures[-NEAP_EIO], 1);
  assert_int_equal(probe_lookup(e, 1), NEAP_ENOENT); /* asked, and not there */
  assert_int_equal(probe_lookup(e, 2), 0);
  assert_int_equal(probe_ops(NEAP_OP_LOOKUP), 2);
  assert_int_equal(probe_stats(e).used_bytes, PROBE_BYTES);
}

static void after_the_while_it_is_stored(void **state) {
  probe_engine *e = *state;
  limits(e)->negative_ms = 3;
  probe_open_tier(e);
  probe_script.fails[1] = 1;
  assert_int_equal(probe_store(e, 1), NEAP_EIO);
  until(e, NEAP_OP_STORE, 1, 0);
  assert_int_equal(probe_load(e, 1), 0);
}

static void failed_keys_are_forgotten_in_their_order_when_they_are_many(void **state) {
  probe_engine *e = *state;
  limits(e)->negative_ms = 3600000;
  limits(e)->breaker_failures = 0;
  probe_open_tier(e);
  probe_script.forced = NEAP_EPERM;
  e->config.persist_enabled = true;
  for (uint32_t n = 0; n < 4096; n += 64) assert_int_equal(probe_run(e, NEAP_OP_STORE, n, 64), NEAP_EPERM);
  assert_int_equal(probe_stats(e).negative_hits, 0);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 4096, 64), NEAP_EPERM); /* the first 64 go */
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 64, 64), NEAP_EPERM);
  assert_int_equal(probe_stats(e).negative_hits, 64);
  uint32_t ops = probe_ops(NEAP_OP_STORE);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 0, 64), NEAP_EPERM);
  assert_int_equal(probe_ops(NEAP_OP_STORE), ops + 1);
  assert_int_equal(probe_stats(e).negative_hits, 64);
}

/* --- full ----------------------------------------------------------------------------------------------------- */

static void a_store_that_stays_full_gets_nothing_for_a_while_and_is_read(void **state) {
  probe_engine *e = *state;
  limits(e)->no_space_ms = 3600000;
  probe_open_tier(e);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 0, 6), 0);
  probe_answers(NEAP_OP_STORE, LATER);
  probe_answers(NEAP_OP_REMOVE, LATER);
  probe_request *r = probe_post(e, NEAP_OP_STORE, 20, 1, 0);
  probe_wait_held(1);
  probe_force(NEAP_ENOSPC);
  probe_finish_held(0);
  probe_wait_held(2); /* victims */
  probe_force(1);
  probe_finish_held(1);
  probe_wait_held(3); /* once more */
  probe_force(NEAP_ENOSPC);
  probe_answers(NEAP_OP_REMOVE, AT_ONCE);
  probe_finish_held(2);
  assert_int_equal(result_of(r), NEAP_ENOSPC);
  assert_int_equal(probe_store(e, 21), NEAP_ENOSPC);
  assert_int_equal(probe_ops(NEAP_OP_STORE), 3);
  neap__tier_stats stats = probe_stats(e);
  assert_int_equal(stats.no_space_pauses, 1);
  assert_int_equal(stats.no_space_refused, 1);
  assert_true(stats.store_paused);
  probe_force(1);
  assert_int_equal(probe_load(e, 5), 0);
  assert_int_equal(probe_lookup(e, 5), 0);
}

static void a_full_store_that_cannot_remove_is_asked_again_after_the_while(void **state) {
  probe_engine *e = *state;
  limits(e)->no_space_ms = 3;
  probe_table.remove = NULL;
  probe_open_tier(e);
  probe_force(NEAP_ENOSPC);
  assert_int_equal(probe_store(e, 1), NEAP_ENOSPC);
  probe_force(1);
  until(e, NEAP_OP_STORE, 1, 0);
  assert_int_equal(probe_stats(e).no_space_pauses, 1);
  assert_false(probe_stats(e).store_paused);
}

/* --- the log -------------------------------------------------------------------------------------------------- */

static uint32_t count_of(const char *text, const char *what) {
  uint32_t count = 0;
  for (const char *at = text; (at = strstr(at, what)) != NULL; at++) count++;
  return count;
}

static void fail_and_recover(probe_engine *e) {
  probe_force(NEAP_EIO);
  for (uint32_t i = 0; i < 30; i++) probe_load(e, 1);
  probe_wait_ops(NEAP_OP_LOOKUP, 3); /* two probes in vain */
  probe_force(NEAP_ENOSPC);          /* an answer */
  for (uint32_t pauses = 0; pauses < 3; pauses = (uint32_t)probe_stats(e).no_space_pauses) probe_store(e, 1);
  probe_force(1);
  until(e, NEAP_OP_STORE, 1, 0);
}

static void each_change_of_state_is_logged_once(void **state) {
  probe_engine *e = *state;
  static char text[65536];
  limits(e)->cooldown_ms = limits(e)->cooldown_max_ms = limits(e)->no_space_ms = 1;
  limits(e)->negative_ms = 0;
  probe_open_tier(e);
  FILE *log = tmpfile();
  fflush(stderr);
  int old = dup(STDERR_FILENO);
  dup2(fileno(log), STDERR_FILENO);
  fail_and_recover(e);
  fflush(stderr);
  dup2(old, STDERR_FILENO);
  close(old);
  rewind(log);
  text[fread(text, 1, sizeof(text) - 1, log)] = 0;
  fclose(log);
  assert_int_equal(count_of(text, "its breaker opens"), 1);
  assert_int_equal(count_of(text, "its breaker closes"), 1);
  assert_int_equal(count_of(text, "has no space left"), 1);
  assert_int_equal(count_of(text, "has space again"), 1);
}

/* --- one store per key ---------------------------------------------------------------------------------------- */

static void a_key_offered_twice_is_stored_once_and_both_hear_of_it(void **state) {
  probe_engine *e = *state;
  probe_answers(NEAP_OP_STORE, LATER);
  probe_request *first = probe_post(e, NEAP_OP_STORE, 0, 4, 0), *second = probe_post(e, NEAP_OP_STORE, 2, 4, 0);
  probe_request *third = probe_post(e, NEAP_OP_STORE, 1, 1, 0);
  probe_wait_held(2);
  probe_drain(e);
  assert_int_equal(probe_script.held_count, 2);
  assert_int_equal(probe_script.held[1]->count, 2);
  assert_int_equal(probe_stats(e).joined_stores, 3);
  probe_script.fails[3] = 1;
  probe_finish_held(1);
  probe_drain(e);
  assert_int_equal(second->dones + third->dones, 0);
  probe_finish_held(0);
  wait_released(first);
  wait_released(second);
  assert_int_equal(result_of(third), 0);
  assert_int_equal(first->results[3], NEAP_EIO);
  assert_int_equal(second->results[0], 0);
  assert_int_equal(second->results[1], NEAP_EIO);
  assert_int_equal(second->results[3], 0);
  probe_request_free(first);
  probe_request_free(second);
  assert_int_equal(probe_stats(e).stored_objects, 5);
  assert_int_equal(probe_stats(e).used_bytes, 5 * PROBE_BYTES);
}

#define OPEN(name) cmocka_unit_test_setup_teardown(name, probe_setup_open, probe_teardown)
#define RAW(name) cmocka_unit_test_setup_teardown(name, probe_setup, probe_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      RAW(a_long_task_reaches_the_adapter_in_the_declared_pieces),
      RAW(with_one_place_writes_and_reads_take_turns),
      RAW(an_operation_has_its_own_deadline_and_the_others_their_results),
      RAW(only_the_objects_that_failed_are_tried_again),
      RAW(attempts_are_counted_and_end_with_the_tasks_deadline),
      RAW(a_late_store_is_tried_again_and_a_late_load_is_not),
      RAW(close_does_not_wait_for_another_try),
      RAW(an_open_breaker_answers_at_once_and_a_probe_closes_it),
      RAW(probes_go_on_until_one_is_answered),
      OPEN(answers_in_between_keep_the_breaker_closed),
      RAW(a_probe_alone_does_not_close_the_breaker_of_a_tier_that_has_no_place_left),
      RAW(who_had_no_time_to_wait_says_nothing_about_the_tier),
      RAW(a_hung_tier_lets_go_of_everybody_who_waits),
      RAW(without_a_breaker_a_failing_tier_is_asked_for_ever),
      RAW(a_key_whose_store_failed_is_not_stored_again_for_a_while),
      RAW(after_the_while_it_is_stored),
      RAW(failed_keys_are_forgotten_in_their_order_when_they_are_many),
      RAW(a_store_that_stays_full_gets_nothing_for_a_while_and_is_read),
      RAW(a_full_store_that_cannot_remove_is_asked_again_after_the_while),
      RAW(each_change_of_state_is_logged_once),
      OPEN(a_key_offered_twice_is_stored_once_and_both_hear_of_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
