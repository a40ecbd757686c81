/* SPDX-License-Identifier: MIT
 *
 * A tier's promises about operations: what a submitter gets when the store is late, twice, never or wrong. */
#include "support/tier_probe.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "support/test_host.h"

/* --- completion ----------------------------------------------------------------------------------------------- */

static void results_reach_the_submitter_and_are_counted(void **state) {
  probe_engine *e = *state;
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 0, 4), 0);
  assert_int_equal(probe_run(e, NEAP_OP_LOAD, 0, 4), 0);
  assert_int_equal(probe_lookup(e, 3), 0);
  assert_int_equal(probe_lookup(e, 9), NEAP_ENOENT);
  assert_int_equal(probe_load(e, 9), NEAP_ENOENT);
  assert_int_equal(probe_store(e, 1), 0); /* there already */
  neap__tier_stats stats = probe_stats(e);
  assert_int_equal(stats.stored_objects, 5);
  assert_int_equal(stats.stored_bytes, 4 * PROBE_BYTES);
  assert_int_equal(stats.used_bytes, 4 * PROBE_BYTES);
  assert_int_equal(stats.loaded_bytes, 4 * PROBE_BYTES);
  assert_int_equal(stats.lookups, 2);
  assert_int_equal(stats.lookup_hits, 1);
  assert_int_equal(stats.load_failures[-NEAP_ENOENT], 1);
  assert_int_equal(stats.in_flight_stores + stats.in_flight_loads + stats.queued, 0);
  assert_int_equal(stats.in_flight_load_bytes, 0);
  assert_int_equal(neap__tier_tenant_bytes(e->tier, 0), 2 * PROBE_BYTES);
  assert_int_equal(neap__tier_tenant_bytes(e->tier, e->tenant), 2 * PROBE_BYTES);
}

static void a_second_done_is_reported_and_ignored(void **state) {
  probe_engine *e = *state;
  FILE *log = tmpfile();
  fflush(stderr);
  int old = dup(STDERR_FILENO);
  dup2(fileno(log), STDERR_FILENO);
  probe_answers(NEAP_OP_STORE, TWICE);
  int rc = probe_store(e, 1) | probe_store(e, 2);
  probe_drain(e);
  probe_script.host->log(probe_script.host->engine, NEAP_WARNING, "one\nline");
  fflush(stderr);
  dup2(old, STDERR_FILENO);
  close(old);
  char text[4096];
  rewind(log);
  size_t n = fread(text, 1, sizeof(text) - 1, log);
  text[n] = 0;
  fclose(log);
  assert_int_equal(rc, 0);
  assert_non_null(strstr(text, "probe called done for an operation that it does not have"));
  assert_non_null(strstr(text, "one line"));
  assert_int_equal(probe_stats(e).stored_objects, 2);
}

static void a_result_that_is_no_code_is_an_io_error(void **state) {
  probe_engine *e = *state;
  probe_force(12345);
  assert_int_equal(probe_store(e, 1), NEAP_EIO);
  probe_force(-400);
  assert_int_equal(probe_load(e, 1), NEAP_EIO);
  assert_int_equal(probe_stats(e).store_failures[-NEAP_EIO], 1);
  assert_int_equal(probe_stats(e).used_bytes, 0);
}

static void what_the_adapter_cannot_do_or_nobody_may_ask_is_refused_at_submit(void **state) {
  probe_engine *e = *state;
  probe_request *r = probe_post(e, NEAP_OP_LIST, 0, 0, 0);
  assert_int_equal(r->submitted, NEAP_ENOTSUP);
  probe_request_free(r);
  r = probe_post(e, NEAP_OP_LOAD, 0, 0, 0);
  assert_int_equal(r->submitted, NEAP_EINVAL);
  probe_request_free(r);
  neap__layout other;
  const uint64_t shape[1] = {1000};
  assert_int_equal(neap__layout_init(&other, shape, 1, "bfloat16", 16, NULL), 0);
  assert_int_equal(neap__names_space(e->names, "demo/tiny", 9, &other, &e->space), 0);
  r = probe_post(e, NEAP_OP_LOAD, 0, 1, 0);
  assert_int_equal(r->submitted, NEAP_ENOTSUP);
  probe_request_free(r);
}

/* --- deadlines ------------------------------------------------------------------------------------------------ */

static void a_late_store_is_answered_at_its_deadline_and_released_when_it_ends(void **state) {
  probe_engine *e = *state;
  probe_answers(NEAP_OP_STORE, LATER);
  probe_request *r = probe_post(e, NEAP_OP_STORE, 1, 2, 20);
  probe_wait_held(1);
  probe_wait(&r->done);
  assert_int_equal(r->results[0], NEAP_ETIMEDOUT);
  assert_int_equal(r->results[1], NEAP_ETIMEDOUT);
  probe_drain(e);
  assert_int_equal(r->releases, 0);
  assert_int_equal(probe_script.cancels, 1);
  assert_int_equal(probe_stats(e).deadlines, 1);
  assert_int_equal(probe_stats(e).in_flight_stores, 1);
  probe_finish_held(0);
  probe_wait(&r->released);
  assert_int_equal(r->dones, 1);
  assert_false(r->changed);
  probe_request_free(r);
  assert_int_equal(probe_stats(e).used_bytes, 2 * PROBE_BYTES); /* it is in the store after all */
  assert_int_equal(probe_stats(e).store_failures[-NEAP_ETIMEDOUT], 2);
  assert_int_equal(probe_load(e, 1), 0);
}

static void a_late_load_writes_its_buffer_without_changing_the_answer(void **state) {
  probe_engine *e = *state;
  assert_int_equal(probe_store(e, 1), 0);
  probe_answers(NEAP_OP_LOAD, LATER);
  probe_request *r = probe_post(e, NEAP_OP_LOAD, 1, 1, 20);
  probe_wait(&r->done);
  assert_int_equal(r->results[0], NEAP_ETIMEDOUT);
  probe_finish_held(0);
  probe_wait(&r->released);
  assert_false(r->changed);
  assert_true(test_filled(r->data, PROBE_BYTES, 1));
  probe_request_free(r);
}

static void what_waits_past_its_deadline_never_reaches_the_adapter(void **state) {
  probe_engine *e = *state;
  probe_request *busy[64];
  probe_answers(NEAP_OP_LOOKUP, LATER);
  for (uint32_t i = 0; i < 64; i++) busy[i] = probe_post(e, NEAP_OP_LOOKUP, i, 1, 0);
  probe_wait_held(64);
  probe_request *r = probe_post(e, NEAP_OP_LOOKUP, 100, 1, 20);
  probe_wait(&r->done);
  probe_wait(&r->released);
  assert_int_equal(r->results[0], NEAP_ETIMEDOUT);
  probe_request_free(r);
  assert_int_equal(probe_script.calls, 64);
  for (uint32_t i = 0; i < 64; i++) probe_finish_held(63 - i);
  for (uint32_t i = 0; i < 64; i++) {
    probe_wait(&busy[i]->released);
    assert_int_equal(busy[i]->results[0], NEAP_ENOENT);
    probe_request_free(busy[i]);
  }
}

/* --- bounds --------------------------------------------------------------------------------------------------- */

static void the_queue_is_bounded_in_operations(void **state) {
  probe_engine *e = *state;
  enum { FITS = 64 + 1024 };
  probe_request **all = calloc(FITS, sizeof(*all));
  probe_answers(NEAP_OP_LOOKUP, LATER);
  for (uint32_t i = 0; i < FITS; i++) all[i] = probe_post(e, NEAP_OP_LOOKUP, 1, 1, 0);
  probe_request *over = probe_post(e, NEAP_OP_LOOKUP, 1, 1, 0);
  assert_int_equal(over->submitted, NEAP_ELIMIT);
  assert_int_equal(over->dones, 0);
  assert_int_equal(probe_stats(e).queue_refused, 1);
  assert_int_equal(probe_stats(e).queued, 1024);
  probe_answers(NEAP_OP_LOOKUP, AT_ONCE);
  for (uint32_t i = 0; i < 64; i++) probe_finish_held(i);
  for (uint32_t i = 0; i < FITS; i++) {
    probe_wait(&all[i]->released);
    assert_int_equal(all[i]->dones, 1);
    probe_request_free(all[i]);
  }
  probe_request_free(over);
  free(all);
}

static void *close_thread(void *arg) {
  probe_engine *e = arg;
  neap__tier_close(e->tier, 30000);
  return NULL;
}

static void the_queue_is_bounded_in_bytes_and_close_answers_what_waits(void **state) {
  probe_engine *e = *state;
  probe_request *held[48], *big[3];
  probe_answers(NEAP_OP_STORE, LATER);
  for (uint32_t i = 0; i < 48; i++) held[i] = probe_post(e, NEAP_OP_STORE, i, 1, 0);
  probe_wait_held(48); /* writes leave places free for reads */
  assert_int_equal(probe_lookup(e, 60), NEAP_ENOENT);
  for (uint32_t i = 0; i < 3; i++) big[i] = probe_post_sized(e, NEAP_OP_STORE, 100 + i, 1, UINT64_C(1) << 29, 0);
  assert_int_equal(big[1]->submitted, 0);
  assert_int_equal(big[2]->submitted, NEAP_ELIMIT);

  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, close_thread, e), 0);
  for (uint32_t i = 0; i < 2; i++) {
    probe_wait(&big[i]->released);
    assert_int_equal(big[i]->results[0], NEAP_ECANCELED);
  }
  assert_int_equal(probe_script.closed, 0);
  for (uint32_t i = 0; i < 48; i++) probe_finish_held(i);
  pthread_join(thread, NULL);
  e->tier = NULL;
  assert_int_equal(probe_script.closed, 1);
  for (uint32_t i = 0; i < 48; i++) {
    assert_int_equal(held[i]->results[0], 0);
    assert_int_equal(held[i]->releases, 1);
    probe_request_free(held[i]);
  }
  for (uint32_t i = 0; i < 3; i++) probe_request_free(big[i]);
}

static probe_request *never_released; /* and all that hangs on it, for the leak checker */

static void an_adapter_that_never_answers_is_left_open_and_its_buffers_pinned(void **state) {
  probe_engine *e = *state;
  probe_answers(NEAP_OP_STORE, LATER);
  never_released = probe_post(e, NEAP_OP_STORE, 1, 1, 0);
  probe_wait_held(1);
  neap__tier_close(e->tier, 20);
  e->tier = NULL;
  assert_int_equal(never_released->dones, 1);
  assert_int_equal(never_released->results[0], NEAP_ECANCELED);
  assert_int_equal(never_released->releases, 0);
  assert_int_equal(probe_script.closed, 0);
  probe_finish_held(0); /* far too late: nobody is there, nothing breaks */
  assert_int_equal(probe_script.host->queue_work(probe_script.host->engine, probe_nothing, NULL), NEAP_ELIMIT);
  assert_int_equal(never_released->releases, 0);
}

static void end_cancelled(void *self, neap_op *op) {
  (void)self;
  probe_finish(op);
}

static void (*own_release)(neap__task *task);

/* So long that a close that does not wait for the end of an operation would be over. */
static void release_slowly(neap__task *task) {
  usleep(20000);
  own_release(task);
}

static void what_an_adapter_gives_back_when_it_is_cancelled_by_close_lets_it_be_closed(void **state) {
  probe_engine *e = *state;
  probe_table.cancel = end_cancelled;
  for (uint32_t i = 0; i < 5; i++) {
    probe_open_tier(e);
    probe_answers(NEAP_OP_STORE, LATER);
    probe_request *r = probe_post(e, NEAP_OP_STORE, 1, 1, 0);
    probe_wait_held(i + 1);
    own_release = r->task->release;
    r->task->release = release_slowly;
    assert_true(neap__tier_close(e->tier, 0));
    e->tier = NULL;
    assert_int_equal(probe_script.closed, i + 1);
    assert_int_equal(r->results[0], NEAP_ECANCELED);
    assert_int_equal(r->releases, 1);
    probe_request_free(r);
  }
}

static void close_does_not_wait_for_a_listing_to_be_complete(void **state) {
  probe_engine *e = *state;
  probe_table.list = probe_call;
  probe_script.answers[NEAP_OP_LIST] = LATER;
  probe_open_tier(e);
  probe_wait_held(1);
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, close_thread, e), 0);
  probe_wait_cancels(1); /* that is what tells that close is under way */
  probe_finish_held(0);  /* its sink says stop */
  pthread_join(thread, NULL);
  e->tier = NULL;
  assert_int_equal(probe_script.closed, 1);
}

static void wait_for(void *sem) { probe_wait(sem); }
static void hurry(void *tier) { neap__tier_hurry(tier, false); }

static void a_listing_that_is_given_up_while_it_is_taken_in_is_not_reported(void **state) {
  probe_engine *e = *state;
  sem_t go;
  char text[4096];
  sem_init(&go, 0, 0);
  assert_int_equal(neap__pool_submit(e->pool, wait_for, &go), 0); /* its one thread */
  probe_table.list = probe_call;
  probe_script.data[1] = calloc(1, PROBE_BYTES);
  probe_script.used_s[1] = 1000;
  FILE *log = tmpfile();
  fflush(stderr);
  int old = dup(STDERR_FILENO);
  dup2(fileno(log), STDERR_FILENO);
  probe_open_tier(e);
  for (int i = 0; i < 8; i++) neap__loop_call(e->loop, probe_nothing, NULL);
  neap__loop_call(e->loop, hurry, e->tier);
  fflush(stderr);
  dup2(old, STDERR_FILENO);
  close(old);
  rewind(log);
  text[fread(text, 1, sizeof(text) - 1, log)] = 0;
  fclose(log);
  sem_post(&go);
  probe_drain(e);
  sem_destroy(&go);
  assert_string_equal(text, "");
  assert_int_equal(probe_stats(e).used_bytes, PROBE_BYTES);
}

/* --- verification --------------------------------------------------------------------------------------------- */

static void a_load_with_wrong_bytes_is_corrupt_and_the_object_removed(void **state) {
  probe_engine *e = *state;
  assert_int_equal(probe_store(e, 1), 0);
  assert_int_equal(probe_store(e, 2), 0);
  probe_script.flip = true;
  assert_int_equal(probe_load(e, 1), NEAP_ECORRUPT);
  probe_drain(e);
  probe_script.flip = false;
  assert_int_equal(probe_stats(e).quarantined, 1);
  assert_int_equal(probe_stats(e).used_bytes, PROBE_BYTES);
  assert_int_equal(probe_script.removed_count, 1);
  assert_int_equal(probe_script.removed[0], 1);
  assert_int_equal(probe_load(e, 1), NEAP_ENOENT);
  assert_int_equal(probe_store(e, 1), 0);
  assert_int_equal(probe_load(e, 1), 0);
}

static void without_remove_a_corrupt_object_stays_refused(void **state) {
  probe_engine *e = *state;
  probe_table.remove = NULL;
  probe_open_tier(e);
  assert_int_equal(probe_store(e, 1), 0);
  probe_script.data[1][7] ^= 1;
  assert_int_equal(probe_load(e, 1), NEAP_ECORRUPT);
  assert_int_equal(probe_load(e, 1), NEAP_ECORRUPT);
  assert_int_equal(probe_stats(e).quarantined, 2);
}

static void an_object_of_another_size_is_no_hit(void **state) {
  probe_engine *e = *state;
  assert_int_equal(probe_store(e, 1), 0);
  probe_request *r = probe_post_sized(e, NEAP_OP_LOOKUP, 1, 1, PROBE_BYTES * 2, 0);
  probe_wait(&r->released);
  assert_int_equal(r->results[0], NEAP_ECORRUPT);
  probe_request_free(r);
  probe_drain(e);
  assert_int_equal(probe_script.removed_count, 1);
  assert_int_equal(probe_stats(e).lookup_hits, 0);
}

/* --- looking -------------------------------------------------------------------------------------------------- */

static void status_adds_health_and_type_to_the_adapters_own_facts(void **state) {
  probe_engine *e = *state;
  char json[256];
  e->config.limits = neap__limits_of(&probe_table);
  e->config.limits.breaker_failures = 0;
  probe_open_tier(e);
  assert_true(neap__tier_status(e->tier, json, sizeof(json)) > 0);
  assert_string_equal(json, "{\"shelves\":3,\"is_healthy\":true,\"type\":\"probe\"}");
  probe_force(NEAP_EIO);
  for (uint32_t n = 0; n < 5; n++) assert_int_equal(probe_load(e, n), NEAP_EIO);
  assert_false(probe_stats(e).healthy);
  assert_true(neap__tier_status(e->tier, json, sizeof(json)) > 0);
  assert_non_null(strstr(json, "\"is_healthy\":false"));
  probe_force(1);
  assert_int_equal(probe_lookup(e, 1), NEAP_ENOENT);
  assert_true(probe_stats(e).healthy);
  assert_int_equal(neap__tier_status(e->tier, json, 8), NEAP_ELIMIT);
}

static void *finisher(void *arg) {
  uint32_t *next = arg; /* ends operations newest first, from a thread of its own */
  for (uint32_t done = 0; done < 200;) {
    neap_op *op = NULL;
    pthread_mutex_lock(&probe_script.lock);
    while (!probe_script.held_count) pthread_cond_wait(&probe_script.change, &probe_script.lock);
    op = probe_script.held[--probe_script.held_count];
    pthread_mutex_unlock(&probe_script.lock);
    probe_finish(op);
    done++;
  }
  return next;
}

static void operations_ended_by_another_thread_in_any_order_each_end_once(void **state) {
  probe_engine *e = *state;
  probe_request *all[200];
  pthread_t thread;
  for (int kind = 0; kind < 3; kind++) probe_answers((neap_op_kind)kind, LATER);
  assert_int_equal(pthread_create(&thread, NULL, finisher, NULL), 0);
  for (uint32_t i = 0; i < 200; i++) all[i] = probe_post(e, (neap_op_kind)(i % 3), i * 4, 4, 0);
  for (uint32_t i = 0; i < 200; i++) {
    probe_wait(&all[i]->released);
    assert_int_equal(all[i]->dones, 1);
    assert_false(all[i]->inside);
    probe_request_free(all[i]);
  }
  pthread_join(thread, NULL);
  assert_int_equal(probe_stats(e).in_flight_stores + probe_stats(e).in_flight_loads, 0);
}

#define OPEN(name) cmocka_unit_test_setup_teardown(name, probe_setup_open, probe_teardown)
#define RAW(name) cmocka_unit_test_setup_teardown(name, probe_setup, probe_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      OPEN(results_reach_the_submitter_and_are_counted),
      OPEN(a_second_done_is_reported_and_ignored),
      OPEN(a_result_that_is_no_code_is_an_io_error),
      OPEN(what_the_adapter_cannot_do_or_nobody_may_ask_is_refused_at_submit),
      OPEN(a_late_store_is_answered_at_its_deadline_and_released_when_it_ends),
      OPEN(a_late_load_writes_its_buffer_without_changing_the_answer),
      OPEN(what_waits_past_its_deadline_never_reaches_the_adapter),
      OPEN(the_queue_is_bounded_in_operations),
      OPEN(the_queue_is_bounded_in_bytes_and_close_answers_what_waits),
      OPEN(an_adapter_that_never_answers_is_left_open_and_its_buffers_pinned),
      RAW(what_an_adapter_gives_back_when_it_is_cancelled_by_close_lets_it_be_closed),
      RAW(close_does_not_wait_for_a_listing_to_be_complete),
      RAW(a_listing_that_is_given_up_while_it_is_taken_in_is_not_reported),
      OPEN(a_load_with_wrong_bytes_is_corrupt_and_the_object_removed),
      RAW(without_remove_a_corrupt_object_stays_refused),
      OPEN(an_object_of_another_size_is_no_hit),
      RAW(status_adds_health_and_type_to_the_adapters_own_facts),
      OPEN(operations_ended_by_another_thread_in_any_order_each_end_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
