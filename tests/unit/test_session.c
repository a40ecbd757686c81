/* SPDX-License-Identifier: MIT
 *
 * Sessions, transfers and the leases they hold: bounds, ages, and that nothing is given back twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "serve/session.h"
#include "serve/writer.h"

enum { OBJECTS = 100, BYTES = 4096 };

#define SECOND ((uint64_t)1000000000u)

typedef struct fixture {
  neap__l1 *l1;
  neap__sessions sessions;
  neap__key keys[OBJECTS];
} fixture;

static unsigned seed;

static uint32_t pick(uint32_t below) { return (uint32_t)rand_r(&seed) % below; }

static neap__text text(const char *word) { return (neap__text){.at = word, .bytes = (uint32_t)strlen(word)}; }

static int setup(void **state) {
  fixture *f = calloc(1, sizeof(*f));
  neap__l1_config config = {.pool_bytes = 1 << 20, .align_bytes = 4096, .chunk_tokens = 4};
  neap__l1_report report;
  neap__owner local = {.kind = NEAP_OWNER_LOCAL};
  if (neap__l1_open(&config, &f->l1, &report, NULL) || neap__sessions_open(&f->sessions, f->l1)) return -1;
  for (uint32_t i = 0; i < OBJECTS; i++) {
    uint64_t bytes = BYTES;
    neap__lease lease;
    int result;
    f->keys[i] = (neap__key){.rank = 1};
    memcpy(f->keys[i].hash, &i, sizeof(i));
    if (neap__l1_reserve(f->l1, 1, &f->keys[i], &bytes, 0, &local, &lease, &result) || result) return -1;
    if (neap__l1_commit(f->l1, lease, NULL, NULL, 0, NULL)) return -1;
  }
  *state = f;
  return 0;
}

static int teardown(void **state) {
  fixture *f = *state;
  neap__sessions_close(&f->sessions);
  neap__l1_close(f->l1, false);
  free(f);
  return 0;
}

static uint32_t leased(fixture *f) {
  neap__l1_stats stats;
  neap__l1_stats_get(f->l1, &stats);
  return stats.leased;
}

/* Leases keys first .. first+count-1 into holds, `readers` times each. */
static void hold(fixture *f, neap__holds *holds, uint32_t first, uint32_t count, uint32_t readers) {
  neap__lease leases[OBJECTS];
  neap__owner owner = {.kind = NEAP_OWNER_REQUEST, .id = 1};
  assert_int_equal(neap__l1_acquire(f->l1, count, &f->keys[first], &owner, readers, true, leases), count);
  assert_int_equal(neap__holds_reserve(holds, count), 0);
  for (uint32_t i = 0; i < count; i++) neap__holds_add(holds, &f->keys[first + i], leases[i], readers);
}

/* --- leases ------------------------------------------------------------------------------------------------------ */

static void leases_are_found_in_any_order(void **state) {
  fixture *f = *state;
  neap__holds holds = {0};
  hold(f, &holds, 0, 50, 1);
  for (uint32_t i = 0; i < 500; i++) {
    uint32_t k = pick(OBJECTS);
    neap__held *held = neap__holds_find(&holds, &f->keys[k]);
    assert_int_equal(held != NULL, k < 50);
    if (held) assert_memory_equal(&held->key, &f->keys[k], sizeof(neap__key));
  }
  neap__holds_give_all(&holds, f->l1);
  assert_null(neap__holds_find(&holds, &f->keys[0]));
  free(holds.at);
}

static void a_lease_ends_with_its_last_reader(void **state) {
  fixture *f = *state;
  neap__holds holds = {0};
  hold(f, &holds, 0, 1, 3);
  for (uint32_t left = 3; left > 0; left--) {
    assert_int_equal(leased(f), 1);
    neap__holds_give(&holds, neap__holds_find(&holds, &f->keys[0]), f->l1, 1);
  }
  assert_int_equal(leased(f), 0);
  assert_null(neap__holds_find(&holds, &f->keys[0]));
  free(holds.at);
}

static void a_moved_reader_is_given_back_by_its_new_holder_only(void **state) {
  fixture *f = *state;
  neap__holds from = {0}, to = {0};
  hold(f, &from, 0, 1, 2);
  assert_int_equal(neap__holds_reserve(&to, 1), 0);
  neap__holds_move(&from, neap__holds_find(&from, &f->keys[0]), &to);
  neap__holds_give_all(&from, f->l1);
  assert_int_equal(leased(f), 1);
  neap__holds_give_all(&to, f->l1);
  assert_int_equal(leased(f), 0);
  free(from.at);
  free(to.at);
}

static void leases_of_one_space_are_given_back_alone(void **state) {
  fixture *f = *state;
  neap__holds holds = {0};
  hold(f, &holds, 0, 10, 1);
  neap__holds_give_space(&holds, f->l1, 7);
  assert_int_equal(leased(f), 10);
  neap__holds_give_space(&holds, f->l1, 0);
  assert_int_equal(leased(f), 0);
  free(holds.at);
}

/* --- sessions ---------------------------------------------------------------------------------------------------- */

static neap__session *session(fixture *f, uint32_t number, uint64_t now_ns) {
  char name[32];
  snprintf(name, sizeof(name), "cmpl-%u", number);
  return neap__session_get(&f->sessions, text(name), now_ns);
}

static void an_old_idle_session_makes_way_for_a_new_one(void **state) {
  fixture *f = *state;
  for (uint32_t i = 0; i < NEAP_SESSIONS_MAX; i++) assert_non_null(session(f, i, i));
  hold(f, &session(f, 0, 0)->holds, 0, 1, 1); /* now the newest, and holds something */
  assert_non_null(session(f, NEAP_SESSIONS_MAX, NEAP_SESSIONS_MAX));
  assert_int_equal(f->sessions.dropped, 1);
  assert_null(neap__session_find(&f->sessions, text("cmpl-1"), 0));
  assert_non_null(neap__session_find(&f->sessions, text("cmpl-0"), 0));
  assert_int_equal(leased(f), 1);
  neap__session_end(&f->sessions, neap__session_find(&f->sessions, text("cmpl-0"), 0));
  assert_int_equal(leased(f), 0);
}

static void sessions_that_hold_leases_do_not_make_way(void **state) {
  fixture *f = *state;
  for (uint32_t i = 0; i < NEAP_SESSIONS_MAX; i++) {
    neap__session *s = session(f, i, i);
    if (i < 64) hold(f, &s->holds, i, 1, 1);
  }
  assert_null(session(f, NEAP_SESSIONS_MAX, NEAP_SESSIONS_MAX));
  assert_int_equal(leased(f), 64);
  for (uint32_t i = 0; i < 64; i++) neap__session_end(&f->sessions, session(f, i, 0));
}

static void sessions_end_when_nobody_asks_for_them(void **state) {
  fixture *f = *state;
  (void)session(f, 1, 0);
  hold(f, &session(f, 2, 0)->holds, 0, 1, 1);
  neap__sessions_expire(&f->sessions, 600 * SECOND, 600 * SECOND);
  assert_int_equal(f->sessions.requests.count, 2);
  neap__sessions_expire(&f->sessions, 601 * SECOND, 600 * SECOND);
  assert_int_equal(f->sessions.requests.count, 1);
  neap__sessions_expire(&f->sessions, 3600 * SECOND, 600 * SECOND);
  assert_int_equal(leased(f), 1);
  neap__sessions_expire(&f->sessions, 3607 * SECOND, 600 * SECOND);
  assert_int_equal(leased(f), 0);
  assert_int_equal(f->sessions.requests.count, 0);
}

static void a_copy_outlives_its_session(void **state) {
  fixture *f = *state;
  neap__transfer *transfer = neap__transfer_add(&f->sessions, 7, 8, 0);
  hold(f, &transfer->holds, 0, 2, 1);
  hold(f, &session(f, 1, 0)->holds, 0, 2, 1);
  neap__sessions_expire(&f->sessions, 100000 * SECOND, SECOND);
  assert_int_equal(leased(f), 2);
  neap__sessions_drop_instance(&f->sessions, 9);
  assert_int_equal(leased(f), 2);
  neap__sessions_drop_instance(&f->sessions, 7);
  assert_int_equal(leased(f), 0);
}

static void token_lists_are_bounded_in_sum(void **state) {
  fixture *f = *state;
  enum { TOKENS = 4 << 20 };
  neap__writer w = {0};
  neap__token_list list;
  neap__write_array(&w, TOKENS);
  for (uint32_t i = 0; i < TOKENS; i++) neap__write_uint(&w, 70000 + i % 100);
  neap__reader r = neap__reader_over(w.at, w.bytes);
  assert_int_equal(neap__read_tokens(&r, &list), 0);
  for (uint32_t i = 0; i < 12; i++) {
    neap__session *s = session(f, i, i);
    assert_int_equal(neap__session_prompt(&f->sessions, s, &list, 8192, UINT32_MAX), 0);
    assert_int_equal(s->chunks, TOKENS / 8192);
    assert_true(f->sessions.prompt_bytes <= NEAP_PROMPTS_BYTES_MAX);
  }
  assert_int_equal(session(f, 0, 0)->chunks, 0);
  assert_true(session(f, 11, 0)->prompt.chunks > 0);
  neap__writer_free(&w);
}

/* --- table ------------------------------------------------------------------------------------------------------- */

static void the_table_agrees_with_a_list(void **state) {
  (void)state;
  enum { IDS = 40, MOST = 25 };
  neap__table table;
  uint64_t order[IDS];
  uint32_t count = 0;
  assert_int_equal(neap__table_open(&table, MOST, sizeof(neap__entry), NULL), 0);
  for (uint32_t round = 0; round < 20000; round++) {
    uint64_t id = pick(IDS);
    uint32_t at = 0;
    while (at < count && order[at] != id) at++;
    neap__entry *entry = neap__table_find(&table, id, ~id);
    assert_int_equal(entry != NULL, at < count);
    assert_null(neap__table_find(&table, id, id));
    uint32_t what = pick(3);
    if (entry && what < 2) {
      memmove(&order[at], &order[at + 1], (count - at - 1) * sizeof(order[0]));
      if (what == 0)
        count--, neap__table_remove(&table, entry);
      else
        order[count - 1] = id, neap__table_use(&table, entry, round);
    } else if (!entry) {
      entry = neap__table_add(&table, id, ~id, round);
      assert_int_equal(entry != NULL, count < MOST);
      if (entry) order[count++] = id;
    }
    assert_int_equal(table.count, count);
    neap__entry *e = table.oldest;
    for (uint32_t i = 0; i < count; i++, e = e->newer) assert_int_equal(e->id, order[i]);
    assert_null(e);
  }
  neap__table_close(&table);
}

int main(void) {
  const char *given = getenv("NEAP_SEED");
  seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)neap__now_ns();
  printf("seed %u\n", seed);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(leases_are_found_in_any_order),
      TEST(a_lease_ends_with_its_last_reader),
      TEST(a_moved_reader_is_given_back_by_its_new_holder_only),
      TEST(leases_of_one_space_are_given_back_alone),
      TEST(an_old_idle_session_makes_way_for_a_new_one),
      TEST(sessions_that_hold_leases_do_not_make_way),
      TEST(sessions_end_when_nobody_asks_for_them),
      TEST(a_copy_outlives_its_session),
      TEST(token_lists_are_bounded_in_sum),
      cmocka_unit_test(the_table_agrees_with_a_list),
  };
  return cmocka_run_group_tests_name("sessions", tests, NULL, NULL);
}
